"""What `evaluate` and `predict` share: a model, the task to measure it on, and where results are written."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from denoise_jax.data import registry
from denoise_jax.data.finetuning import check_classes
from denoise_jax.errors import ConfigError, UserError
from denoise_jax.runs.load_model import LoadedModel, open_checkpoint
from denoise_jax.runs.run_folder import EVAL


@dataclasses.dataclass(frozen=True)
class EvaluatedRun:
    """A model whose configuration names the task to measure it on, and the split."""

    model: LoadedModel
    split: str
    name: str  # of result files: <step>[-<task>][-<split>], without what is the run's own

    def result_file(self, suffix: str) -> Path | None:
        """RUN/eval/<name><suffix>; None if the model is not from a run folder."""
        return None if self.model.run is None else self.model.run / EVAL / (self.name + suffix)


def open_evaluated_run(
    run: str | Path | LoadedModel,
    *,
    split: str | None,
    step: int | None,
    task: str | None,
    task_modules: Sequence[str] | None,
) -> EvaluatedRun:
    """Loads a model to measure on a split of a task. Everything is checked before the parameters are read.

    Raises:
      CheckpointError: as for `load_model`.
      ConfigError: imported weights, and no task is given.
      DataError: an unknown task or split, or targets that do not fit the model.
    """
    if isinstance(run, LoadedModel) and step not in (None, run.step):
        raise UserError(f"step={step} is not the step {run.step} of the model that is given")
    checkpoint = run if isinstance(run, LoadedModel) else open_checkpoint(run, step)
    data = checkpoint.config.data
    measured = data.replace(task=task or data.task, task_modules=task_modules or data.task_modules)
    if measured.task is None:
        raise ConfigError("imported weights have no task of their own; give --task NAME")
    own_split = checkpoint.config.evaluation.split
    split = split or own_split
    found = registry.find_task(measured.task, measured.task_modules)
    check_classes(found, checkpoint.config.model.num_classes)
    registry.check_splits(found, [split])
    model = checkpoint if isinstance(checkpoint, LoadedModel) else checkpoint.load()
    model = dataclasses.replace(model, config=model.config.replace(data=measured))
    parts = [str(model.step), task, None if split == own_split else split]
    return EvaluatedRun(model, split, "-".join(filter(None, parts)))


def check_limit(name: str, value: int | None) -> None:
    """UserError unless `value`, a number of batches or examples, is None or at least 1."""
    if value is not None and value < 1:
        raise UserError(f"{name}={value} must be at least 1")
