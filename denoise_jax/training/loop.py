"""The training loop: evaluate if due → save if due → next batch → step → log the previous step.

Step n means n updates done. A checkpoint at n therefore holds the data position from which batch n + 1 comes.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from rich.console import Console

from denoise_jax.config import Config
from denoise_jax.data.loader import TrainLoader
from denoise_jax.errors import CheckpointError, DataError, UserError
from denoise_jax.evaluation.metrics import describe, measured_scalars
from denoise_jax.model.batch import BATCH, abstract_batch
from denoise_jax.model.flops import training_flops
from denoise_jax.parallel import processes
from denoise_jax.parallel.mesh import BATCH_AXES
from denoise_jax.parallel.processes import is_first, together
from denoise_jax.parallel.sharding import global_batch
from denoise_jax.runs.checkpoint import Checkpointer
from denoise_jax.runs.run_folder import CHECKPOINTS
from denoise_jax.training.log_folder import LogFolder
from denoise_jax.training.log_interval import LogInterval
from denoise_jax.training.optimizer import make_optimizer, make_schedule
from denoise_jax.training.preemption import StopSignal
from denoise_jax.training.profile import Profiler
from denoise_jax.training.progress import RunProgress
from denoise_jax.training.run_clock import RunClock
from denoise_jax.training.state import State, abstract_state, count_parameters, create_state
from denoise_jax.training.step import make_train_step
from denoise_jax.training.watchdog import Watchdog
from denoise_jax.training.writers import JSONL, open_writers, read_lines, write_all

SAVE_PAUSE = 5  # seconds before a last checkpoint is written again

# (parameters, whether to stop) → the result of `Evaluator.measure`
Validate = Callable[[Mapping, Callable[[], bool]], dict | None]


class Trainer:
    """One run: its compiled step, data, checkpoints and logs, at some step.

    Args of the constructor:
      folder: prepared by `run_folder.prepare`.
      vocabulary_files: stored in every checkpoint, name → content.
      validate: measures parameters on the validation split.
      console: where the first process reports.
      initial_params: makes the parameters, on `mesh`, for a warm start; called only without a checkpoint.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        loader: TrainLoader,
        vocabulary_files: Mapping[str, bytes],
        mesh: Mesh,
        validate: Validate,
        console: Console,
        initial_params: Callable[[], Mapping] | None = None,
    ):
        start = time.perf_counter()
        self.config, self.mesh, self.validate = config, mesh, validate
        self.console = console if is_first() else Console(quiet=True)
        self.loader, self.vocabulary_files = loader, vocabulary_files
        self.schedule = jax.jit(make_schedule(config.optimizer, config.training.num_steps))
        optimizer = make_optimizer(config.optimizer, config.training.num_steps)
        target = abstract_state(config, optimizer, mesh)
        self.checkpoints = Checkpointer(folder / CHECKPOINTS, config.training)
        self.state = self._restore(target) or create_state(
            config, optimizer, mesh, initial_params and initial_params()
        )
        self.first_step = self.step = int(self.state["step"])
        together(self.loader.read_first)
        self.train_step = self._compile(make_train_step(config, optimizer, mesh, target), target)
        self.logs = LogFolder(folder, copied=(JSONL,))
        self.writers = open_writers(self.logs.path, folder, config, self.first_step)
        self.pending: dict[str, jax.Array] | None = None  # metrics of the last dispatched step
        self.interval = LogInterval()
        self.profiler = Profiler(None, folder)
        self.clock = RunClock(training_flops(config), mesh, start)
        self.skipped_in_a_row = 0
        self.measured: dict[str, float] | None = None  # by the validation of this step

    def run(self, stop: StopSignal) -> bool:
        """Trains to `training.num_steps`; False if asked to stop earlier. Either way a checkpoint is saved,
        unless no step has been done.

        Raises:
          NonFiniteLoss: the loss or the gradient is not finite; no such state is saved.
        """
        settings = self.config.training
        progress = RunProgress(self.console, self.first_step, settings.num_steps)
        # Transfers between host and device must be explicit: a hidden one would stall every step.
        guard = jax.transfer_guard("disallow")
        missed = self._missed_validation()
        stacks = self.logs.path / f"stacks-of-process-{jax.process_index()}.txt"
        watchdog = Watchdog(60 * settings.watchdog_minutes, stacks)
        with contextlib.closing(self), progress, guard, watchdog:
            while True:
                watchdog.beat()
                complete = self.step == settings.num_steps
                stopping = stop.requested() and not complete
                at_end = complete and settings.evaluate_every and self.step > self.first_step
                if not stopping and (self._due(settings.evaluate_every) or at_end or missed):
                    stopping = not self._validate(progress, stop, watchdog)
                    missed = False
                stopping = stopping or complete
                if self._due(settings.save_every) or (stopping and self.step > self.first_step):
                    self._save(progress)
                if stopping:
                    self._finish_saving(progress)
                    return complete
                self.profiler.before_step(self.step)
                with jax.profiler.StepTraceAnnotation("train", step_num=self.step):
                    self.state, metrics = self.train_step(self.state, self._next_batch())
                self._settle(progress)  # reads the previous step's metrics while this step runs
                self.step, self.pending, self.measured = self.step + 1, metrics, None

    def _missed_validation(self) -> bool:
        """Whether the run was stopped between the step that it resumes from and its validation."""
        every, step = self.config.training.evaluate_every, self.first_step
        if not (every and step and step % every == 0):
            return False
        lines = read_lines(self.logs.path / JSONL) if is_first() else []
        missing = not any(line["step"] == step and "validation/loss" in line for line in lines)
        return processes.any_of(is_first() and missing)

    def _due(self, every: int) -> bool:
        """Whether something that happens every `every` steps is due; never at the step resumed from."""
        return bool(every) and self.step > self.first_step and self.step % every == 0

    def _next_batch(self) -> dict[str, jax.Array]:
        with self.interval.waiting_for_data():
            batch = next(self.loader)
        return global_batch({name: batch[name] for name in BATCH}, self.mesh)

    def _settle(self, progress: RunProgress, *, log: bool = False) -> None:
        """Adds the metrics of the last dispatched step to the interval; logs if due or if `log`."""
        if self.pending is not None:
            self._add(jax.device_get(self.pending))
            self.pending = None
            progress.advance(self.step)
            log = log or self.step % self.config.training.log_every == 0
        if log and self.interval:
            last_update = jax.device_put(np.float32(self.step - 1))
            values = self.interval.values(float(jax.device_get(self.schedule(last_update))))
            values |= self.clock.values(self.interval)
            write_all(self.writers, self.step, values)
            self.logs.sync()
            progress.show_metrics(self.step, values)
            self.interval = LogInterval()

    def _add(self, metrics: dict[str, np.ndarray]) -> None:
        """Adds the metrics of a step to the interval, unless its update was skipped."""
        skipped = metrics.pop("skipped", 0)
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if skipped else 0
        if skipped and self.skipped_in_a_row <= self.config.training.max_skipped_updates:
            self.interval.skip()
        else:
            self.interval.add(self.step, metrics)

    def _validate(self, progress: RunProgress, stop: StopSignal, watchdog: Watchdog) -> bool:
        """False if it was asked to stop before the end."""
        self._settle(progress)
        with self.interval.paused():
            result = self.validate(self.state["params"], lambda: watchdog.beat() or stop.requested())
        if result is None:
            return False
        self.measured = {scalar.key: value for scalar, value in measured_scalars(result).items()}
        write_all(self.writers, self.step, {f"validation/{key}": v for key, v in self.measured.items()})
        progress.say(f"step {self.step}: validation {describe(result)}")
        return True

    def _save(self, progress: RunProgress) -> None:
        data = self.loader.snapshot()  # while the last step still runs
        # Settling keeps states that are not finite from being saved; logging now gives a resumed run the same
        # log intervals as an uninterrupted one.
        self._settle(progress, log=True)
        if self.step in self.checkpoints.steps():
            return
        with self.interval.paused():
            self.checkpoints.save(
                self.step,
                self.state,
                config=self.config,
                vocabulary=self.vocabulary_files,
                data=data,
                metrics=self.measured,
            )

    def _finish_saving(self, progress: RunProgress) -> None:
        """Waits for the last checkpoint; one that could not be written is written again."""
        while not self.checkpoints.wait():
            time.sleep(SAVE_PAUSE)
            self._save(progress)

    def _restore(self, target: State) -> State | None:
        """The newest usable checkpoint, with the loader set to its data position; None if there is none."""
        unusable: dict[int, UserError] = {}
        for step in reversed(self.checkpoints.steps()):
            try:
                state = self.checkpoints.restore(step, target)
                together(functools.partial(self._restore_data, step))
            except (CheckpointError, DataError) as error:
                unusable[step] = error
                continue
            # Only once an older checkpoint has been read: if none can be, the cause is probably not damage.
            for damaged, error in unusable.items():
                self.console.print(f"{error}; falling back to the previous checkpoint", soft_wrap=True)
                self.checkpoints.set_aside(damaged)
            self.console.print(f"resuming at step {step}")
            return state
        if unusable:
            raise CheckpointError(f"no checkpoint can be used: {'; '.join(map(str, unusable.values()))}")
        return None

    def _restore_data(self, step: int) -> None:
        self.loader.restore(self.checkpoints.contents(step).data)

    def _compile(self, train_step: Callable, target: State) -> Callable:
        self.console.print(
            f"{self.config.name}: {count_parameters(self.state):,} parameters on {self.mesh.size} device(s); "
            "compiling the train step",
            soft_wrap=True,
        )
        batch = abstract_batch(self.config.data, NamedSharding(self.mesh, P(BATCH_AXES)))
        return train_step.lower(target, batch).compile()

    def close(self) -> None:
        """Closes the writers and waits for checkpoints being written; also called after an error."""
        self.profiler.close()
        for writer in self.writers:
            writer.close()
        self.checkpoints.close()
        self.logs.sync()
