"""Training a configuration in a folder, from the start or from the run's newest checkpoint."""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import jax
from jax.sharding import Mesh
from rich.console import Console

from denoise_jax.config import Config
from denoise_jax.data import registry
from denoise_jax.data.finetuning import check_classes
from denoise_jax.evaluation.evaluate import Evaluator
from denoise_jax.parallel.mesh import check_batch, make_mesh
from denoise_jax.runs import run_folder
from denoise_jax.runs.resolve_run import ResolvedRun, resolve_run
from denoise_jax.runs.warm_start import abstract_params
from denoise_jax.training.loop import Trainer
from denoise_jax.training.plots import plot_metrics
from denoise_jax.vocabulary.load import load_vocabulary


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """Where a call of `train` ended."""

    folder: Path
    step: int
    complete: bool  # False: stopped by a signal before training.num_steps; the same call resumes
    loss_plot: Path | None  # None on all but the first process, or if nothing was logged


def train(config: Config, workdir: str | Path, *, console: Console | None = None) -> TrainResult:
    """Trains `config` in the run folder `workdir`, or resumes the run in it.

    Ctrl-C and SIGTERM save a checkpoint and stop at the next step.

    Args:
      config: `model.vocab_size` and, for a warm start, the architecture are filled in.
      console: where the first process reports; default: stdout.

    Raises:
      ConfigError, DataError, CheckpointError: the configuration, the data or the folder cannot be used. All
        that can be checked is checked before anything is written or compiled.
      NonFiniteLoss: the loss or the gradient is not finite.
    """
    folder, console = Path(workdir), console or Console()
    run = resolve_run(config, folder)
    config = run.config
    mesh = _check(config)
    changes, lock = run_folder.prepare(folder, config, run.vocabulary.files(), run.vocabulary.fingerprint())
    with lock or contextlib.nullcontext():
        for change in changes:
            console.print(f"changed since the run started: {change}", highlight=False)
        # From here on the run depends on its own copy.
        run = dataclasses.replace(run, vocabulary=load_vocabulary(folder / run_folder.VOCABULARY))
        trainer = _make_trainer(run, folder, mesh, console)
        complete = trainer.run()
        plot = plot_metrics(folder, config) if jax.process_index() == 0 else None
    end, curves = "done" if complete else "stopped", f"; loss curve in {plot}" if plot else ""
    trainer.console.print(f"{end} at step {trainer.step}{curves}", highlight=False, soft_wrap=True)
    return TrainResult(folder, trainer.step, complete, plot)


def _check(config: Config) -> Mesh:
    """The mesh of the run; raises if the task or the devices do not fit the configuration."""
    task = registry.find_task(config.data.task, config.data.task_modules)
    check_classes(task, config.model.num_classes)
    splits = ["train", *[config.evaluation.validation_split] * bool(config.training.evaluate_every)]
    registry.check_splits(task, splits)
    mesh = make_mesh(config.parallel)
    rows = config.data.batch_size // config.training.accumulation_steps
    check_batch(mesh, rows, "data.batch_size / training.accumulation_steps")
    abstract_params(config.model, mesh)  # raises if the axes of the mesh do not divide the parameters
    return mesh


def _make_trainer(run: ResolvedRun, folder: Path, mesh: Mesh, console: Console) -> Trainer:
    config = run.config
    evaluator = Evaluator(config, run.vocabulary, mesh)

    def validate(params: Mapping) -> dict:
        return evaluator.measure(params, config.evaluation.validation_split, config.evaluation.max_batches)

    def initial_params() -> Mapping:
        params, step = run.initial_params(mesh)
        console.print(
            f"warm start from {config.training.init_from}, step {step}", highlight=False, soft_wrap=True
        )
        return params

    warm_start = initial_params if config.training.init_from is not None else None
    return Trainer(config, folder, run.vocabulary, mesh, validate, console, warm_start)
