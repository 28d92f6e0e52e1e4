"""Training a configuration in a folder, from the start or from the run's newest checkpoint."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
from jax.sharding import Mesh
from rich.console import Console

from denoise_jax import __version__
from denoise_jax.config import Config
from denoise_jax.data import registry
from denoise_jax.data.finetuning import check_classes
from denoise_jax.data.loader import TrainLoader, shards_of_this_host
from denoise_jax.evaluation.evaluate import Evaluator
from denoise_jax.parallel import processes
from denoise_jax.parallel.memory import keep_freed_memory
from denoise_jax.parallel.mesh import check_batch, make_mesh
from denoise_jax.parallel.processes import is_first, together
from denoise_jax.paths import reachable_path
from denoise_jax.runs import run_folder
from denoise_jax.runs.config_differences import flattened
from denoise_jax.runs.resolve_run import ResolvedRun, resolve_run
from denoise_jax.runs.run_folder import PLOTS, PROFILE
from denoise_jax.runs.warm_start import abstract_params
from denoise_jax.training.compilation_cache import use_compilation_cache
from denoise_jax.training.loop import Trainer
from denoise_jax.training.plots import LOSS, plot_metrics
from denoise_jax.training.preemption import StopSignal
from denoise_jax.training.profile import Profiler
from denoise_jax.training.writers import check_writers
from denoise_jax.vocabulary.load import load_vocabulary


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """Where a call of `train` ended."""

    folder: Path
    step: int
    complete: bool  # False: stopped by a signal before training.num_steps; the same call resumes
    loss_plot: Path | None  # None on all but the first process, or if nothing was logged


def train(
    config: Config,
    workdir: str | Path,
    *,
    profile: range | None = None,
    cache_dir: str | Path | None = None,
    console: Console | None = None,
) -> TrainResult:
    """Trains `config` in the run folder `workdir`, or resumes the run in it.

    Ctrl-C and SIGTERM save a checkpoint and stop at the next step; while nothing has been done yet, they end
    the process. With several processes (see `parallel/processes.py`), all call this function alike.

    Args:
      config: `model.vocab_size` and, for a warm start, the architecture are filled in.
      profile: steps whose trace is written to the folder `profile` of the run.
      cache_dir: where compiled programs are kept; default: beside the run (see `use_compilation_cache`).
      console: where the first process reports; default: stdout.

    Raises:
      ConfigError, DataError, CheckpointError: the configuration, the data or the folder cannot be used. All
        that can be checked is checked before anything is written or compiled.
      NonFiniteLoss: the loss or the gradient is not finite.
    """
    keep_freed_memory()
    folder = reachable_path(workdir)
    console = (console or Console()) if is_first() else Console(quiet=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(processes.reporting_lost_processes())
        stop = stack.enter_context(StopSignal())
        with stop.nothing_to_save(stack.close):
            run = together(lambda: resolve_run(config, folder))
            if together(lambda: _is_finished(run, folder)):
                return _report(console, folder, run.config.training.num_steps, complete=True)
            mesh = together(lambda: _check(run.config))
            use_compilation_cache(folder, cache_dir)
            _check_agreement(run)
            identity = run.vocabulary.files(), run.vocabulary.fingerprint()
            changes, lock = run_folder.prepare(folder, run.config, *identity)
            stack.enter_context(contextlib.closing(lock) if lock else contextlib.nullcontext())
            for change in changes:
                console.print(f"changed since the run started: {change}", highlight=False)
            # From here on the run depends on its own copy.
            run = dataclasses.replace(run, vocabulary=load_vocabulary(folder / run_folder.VOCABULARY))
            loader = TrainLoader(run.config.data, run.vocabulary, num_classes=run.config.model.num_classes)
            trainer = _make_trainer(run, folder, mesh, loader, console)
            trainer.profiler = Profiler(profile, trainer.logs.path / PROFILE)
        stack.enter_context(contextlib.closing(trainer.logs))
        complete = trainer.run(stop)
        if is_first():
            plot_metrics(trainer.logs.path, run.config)
    return _report(console, folder, trainer.step, complete=complete)


def _is_finished(run: ResolvedRun, folder: Path) -> bool:
    """Whether nothing is left to do: known from the names of the checkpoints, before data are opened.

    The newest checkpoint is not read. If it is damaged, `denoise-jax checkpoints RUN --verify` shows it.
    """
    if run_folder.newest_step(folder) != run.config.training.num_steps:
        return False
    run_folder.check(folder, run.config, run.vocabulary.fingerprint())
    return True


def _report(console: Console, folder: Path, step: int, *, complete: bool) -> TrainResult:
    plot = folder / PLOTS / LOSS
    plot = plot if is_first() and plot.exists() else None
    end, curves = "done" if complete else "stopped", f"; loss curve in {plot}" if plot else ""
    console.print(f"{end} at step {step}{curves}", highlight=False, soft_wrap=True)
    return TrainResult(folder, step, complete, plot)


def _check_agreement(run: ResolvedRun) -> None:
    """ConfigError, naming the field, if the processes were started with different settings or code."""
    values = {"the vocabulary": run.vocabulary.fingerprint(), "the version of denoise_jax": __version__}
    values |= {"the version of JAX": jax.__version__}
    values |= {field: repr(value) for field, value in flattened(run.config).items()}
    processes.check_agreement(values)


def _check(config: Config) -> Mesh:
    """The mesh of the run; raises if the task or the devices do not fit the configuration."""
    check_writers(config.training.writers)
    shards_of_this_host(config.data.shards)
    task = registry.find_task(config.data.task, config.data.task_modules)
    check_classes(task, config.model.num_classes)
    splits = ["train", *[config.evaluation.validation_split] * bool(config.training.evaluate_every)]
    registry.check_splits(task, splits)
    mesh = make_mesh(config.parallel)
    rows = config.data.batch_size // config.training.accumulation_steps
    check_batch(mesh, rows, "data.batch_size / training.accumulation_steps")
    abstract_params(config.model, mesh)  # raises if the axes of the mesh do not divide the parameters
    return mesh


def _make_trainer(
    run: ResolvedRun, folder: Path, mesh: Mesh, loader: TrainLoader, console: Console
) -> Trainer:
    config = run.config
    evaluator = Evaluator(config, run.vocabulary, mesh)

    def validate(params: Mapping, stopping: Callable[[], bool]) -> dict | None:
        settings = config.evaluation
        return evaluator.measure(params, settings.validation_split, settings.max_batches, stopping)

    def initial_params() -> Mapping:
        params, step = run.initial_params(mesh)
        console.print(
            f"warm start from {config.training.init_from}, step {step}", highlight=False, soft_wrap=True
        )
        return params

    warm_start = initial_params if config.training.init_from is not None else None
    files = run.vocabulary.files()
    return Trainer(config, folder, loader, files, mesh, validate, console, warm_start)
