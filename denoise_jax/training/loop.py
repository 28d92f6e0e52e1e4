"""The training loop: evaluate if due → save if due → next batch → step → log the step before.

Step n means n updates done. A checkpoint at n therefore holds the data position from which batch n + 1 comes.
"""

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from rich.console import Console

from denoise_jax.config import Config
from denoise_jax.data.loader import TrainLoader
from denoise_jax.errors import CheckpointError, ConfigError, DataError, UserError
from denoise_jax.parallel.mesh import BATCH_AXES, check_batch
from denoise_jax.parallel.sharding import global_batch
from denoise_jax.runs.checkpoint import Checkpointer
from denoise_jax.runs.run_folder import CHECKPOINTS
from denoise_jax.training.optimizer import make_optimizer, make_schedule
from denoise_jax.training.preemption import StopSignal
from denoise_jax.training.progress import RunProgress
from denoise_jax.training.state import State, abstract_state, count_parameters, create_state
from denoise_jax.training.step import BATCH, make_train_step
from denoise_jax.training.writers import open_writers, write_all
from denoise_jax.vocabulary.base import Vocabulary

Validate = Callable[[Mapping], dict[str, float]]  # parameters → values


_NORMS = ("grad_norm", "update_norm")  # of the last step of a window; all else is summed


class NonFiniteLoss(RuntimeError):
    """The loss, the gradient or the update is no number; the message names the step."""


class Trainer:
    """A run: what is needed for a step, and what is known of the steps done.

    Args of the constructor:
      folder: prepared by `run_folder.prepare`.
      validate: measures parameters on the validation split.
      console: where the first process reports.
      initial: gives, on `mesh`, the parameters that a run without a checkpoint begins with; None: its own.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        vocabulary: Vocabulary,
        mesh: Mesh,
        validate: Validate,
        console: Console,
        initial: Callable[[], Mapping] | None = None,
    ):
        self.config, self.mesh, self.validate = config, mesh, validate
        rows = config.data.batch_size // config.training.accumulation_steps
        check_batch(mesh, rows, "data.batch_size / training.accumulation_steps")
        self.console = console if jax.process_index() == 0 else Console(quiet=True)
        self.files = vocabulary.files()
        self.schedule = make_schedule(config.optimizer, config.training.num_steps)
        optimizer = make_optimizer(config.optimizer, config.training.num_steps)
        target = abstract_state(config, optimizer, mesh)
        self.loader = TrainLoader(config.data, vocabulary, num_classes=config.model.num_classes)
        self.checkpoints = Checkpointer(folder / CHECKPOINTS, config.training)
        self.state = self._restore(target) or create_state(
            config, len(vocabulary), optimizer, mesh, initial and initial()
        )
        self.first = self.step = int(self.state["step"])
        if self.step > config.training.num_steps:
            raise ConfigError(
                f"training.num_steps={config.training.num_steps} is below the {self.step} updates that "
                f"the run in {folder} has done"
            )
        self.train_step = self._compile(make_train_step(config, optimizer, mesh, target), target)
        self.writers = open_writers(folder, config, self.first)
        self.pending: dict[str, jax.Array] | None = None
        self.window = LogWindow()

    def run(self) -> bool:
        """Trains to `training.num_steps`; False if asked to stop before. Either way a checkpoint is left.

        Raises:
          NonFiniteLoss: the loss or the gradient is no number; what was saved is from before.
        """
        settings = self.config.training
        progress = RunProgress(self.console, self.first, settings.num_steps)
        with contextlib.closing(self), progress, StopSignal() as stop:
            while True:
                complete = self.step == settings.num_steps
                stopping = complete or stop.asked(self.step)
                at_end = complete and settings.evaluate_every and self.step > self.first
                if self._due(settings.evaluate_every) or at_end:
                    self._validate(progress)
                if self._due(settings.save_every) or stopping:
                    self._save(progress)
                if stopping:
                    break
                batch = self._next_batch()
                self.state, metrics = self.train_step(self.state, batch)
                self._settle(progress)  # reads the step before, while this one is under way
                self.step, self.pending = self.step + 1, metrics
        return complete

    def _due(self, every: int) -> bool:
        """Whether something that happens every so many steps happens now; not twice at a resumed step."""
        return bool(every) and self.step > self.first and self.step % every == 0

    def _next_batch(self) -> dict[str, jax.Array]:
        began = time.perf_counter()
        batch = next(self.loader)
        self.window.waited += time.perf_counter() - began
        return global_batch({name: batch[name] for name in BATCH}, self.mesh)

    def _settle(self, progress: RunProgress, *, log: bool = False) -> None:
        """Adds the metrics of the last dispatched step to the window; logs when due or asked for."""
        if self.pending is not None:
            self.window.add(self.step, jax.device_get(self.pending))
            self.pending = None
            progress.advance(self.step)
            log = log or self.step % self.config.training.log_every == 0
        if log and self.window.sums:
            values = self.window.values(float(self.schedule(self.step - 1)))
            write_all(self.writers, self.step, values)
            progress.numbers(self.step, values)
            self.window = LogWindow()

    def _validate(self, progress: RunProgress) -> None:
        self._settle(progress)
        with self.window.paused():
            result = self.validate(self.state["params"])
        values = {f"validation/{name}": value for name, value in result.items() if isinstance(value, float)}
        if "visible" in result and not result["visible"]["tokens"]:
            del values["validation/visible_accuracy"]  # of nothing, as in fine-tuning
        write_all(self.writers, self.step, values)
        progress.say(f"step {self.step}: validation {_told(result)}")

    def _save(self, progress: RunProgress) -> None:
        # A state that is no number is never saved; and a resumed run logs the same windows as this one.
        self._settle(progress, log=True)
        if self.step in self.checkpoints.steps():
            return
        with self.window.paused():
            data = self.loader.state()
            self.checkpoints.save(self.step, self.state, config=self.config, vocabulary=self.files, data=data)

    def _restore(self, target: State) -> State | None:
        """The newest checkpoint that is whole, with the data position set to match; None if there is none."""
        unfit: dict[int, UserError] = {}
        for step in reversed(self.checkpoints.steps()):
            try:
                state = self.checkpoints.restore(step, target)
                self.loader.restore(self.checkpoints.contents(step).data)
            except (CheckpointError, DataError) as error:
                unfit[step] = error
                continue
            for bad, error in unfit.items():  # only now, so that an error with another cause changes nothing
                self.console.print(f"{error}; going back to the checkpoint before", soft_wrap=True)
                self.checkpoints.set_aside(bad)
            self.console.print(f"resuming at step {step}")
            return state
        if unfit:
            raise CheckpointError(f"no checkpoint can be used: {'; '.join(map(str, unfit.values()))}")
        return None

    def _compile(self, train_step, target: State):
        data = self.config.data
        rows = NamedSharding(self.mesh, P(BATCH_AXES))

        def spec(name: str) -> jax.ShapeDtypeStruct:
            length = data.input_length if name.startswith("encoder") else data.target_length
            return jax.ShapeDtypeStruct((data.batch_size, length), jnp.int32, sharding=rows)

        self.console.print(
            f"{self.config.name}: {count_parameters(self.state):,} parameters on {self.mesh.size} device(s); "
            "compiling the step",
            soft_wrap=True,
        )
        return train_step.lower(target, {name: spec(name) for name in BATCH}).compile()

    def close(self) -> None:
        """Waits for the checkpoint under way and closes the writers, also after an error."""
        for writer in self.writers:
            writer.close()
        self.checkpoints.close()


def _told(result: Mapping) -> str:
    """The figures of a validation in a line."""
    loss, baseline = f"loss {result['loss']:.3f}", f"{result['baseline_accuracy']:.3f}"
    if "accuracy" in result:
        return f"{loss}, accuracy {result['accuracy']:.3f} (most frequent class {baseline})"
    seen = f"visible {result['visible_accuracy']:.3f}, hidden " if result["visible"]["tokens"] else ""
    return f"{loss}, accuracy {seen}{result['hidden_accuracy']:.3f} (most frequent token {baseline})"


class LogWindow:
    """Sums over the steps since the last log line, and where their time went."""

    def __init__(self):
        self.sums: dict[str, float] = {}
        self.waited = 0.0
        self._began = time.perf_counter()

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds the metrics of `step`; NonFiniteLoss if they are no numbers."""
        if not all(math.isfinite(metrics[name]) for name in ("loss", *_NORMS)):
            found = {"loss": metrics["loss"] / max(metrics["tokens"], 1), **{n: metrics[n] for n in _NORMS}}
            told = ", ".join(f"{name} {value}" for name, value in found.items())
            raise NonFiniteLoss(
                f"step {step} gave {told}; what is saved is from before it. Lower optimizer.learning_rate or "
                "optimizer.clip_norm, and run again"
            )
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.sums |= {name: float(metrics[name]) for name in _NORMS}

    @contextlib.contextmanager
    def paused(self):
        """Time that belongs to no step."""
        began = time.perf_counter()
        yield
        self._began += time.perf_counter() - began

    def values(self, learning_rate: float) -> dict[str, float]:
        """What is logged: means over tokens, rates over the time since the last line."""
        elapsed = time.perf_counter() - self._began
        return {
            "train/loss": self.sums["loss"] / max(self.sums["tokens"], 1),
            "train/hidden_loss": self.sums["hidden_loss"] / max(self.sums["hidden_tokens"], 1),
            **{f"train/{name}": self.sums[name] for name in _NORMS},
            "train/learning_rate": learning_rate,
            "train/tokens": self.sums["tokens"],
            "train/tokens_per_second": self.sums["tokens"] / elapsed,
            "train/data_wait": self.waited / elapsed,
        }
