"""Loss and accuracy on a split with fixed noise, for each kind of target token."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from denoise_jax.config import Config
from denoise_jax.data.loader import evaluation_batches
from denoise_jax.errors import DataError
from denoise_jax.evaluation.evaluated_run import check_limit, open_evaluated_run
from denoise_jax.evaluation.evaluation_step import make_evaluation_step
from denoise_jax.evaluation.metrics import metrics_for
from denoise_jax.files import write_atomically
from denoise_jax.model.batch import BATCH
from denoise_jax.parallel.mesh import padded_batch_size
from denoise_jax.parallel.processes import is_first
from denoise_jax.parallel.sharding import global_batch
from denoise_jax.runs.load_model import LoadedModel
from denoise_jax.vocabulary.base import Vocabulary


def evaluate(
    run: str | Path | LoadedModel,
    *,
    split: str | None = None,
    step: int | None = None,
    task: str | None = None,
    task_modules: Sequence[str] | None = None,
    max_batches: int | None = None,
) -> dict:
    """Measures a checkpoint on a split, with the same noise every time.

    The result of a complete split of a run folder is also written to RUN/eval/<step>[-<task>][-<split>].json.

    Args:
      run: run or checkpoint folder, or a loaded model.
      split: default: `evaluation.split` of the run.
      step: checkpoint to measure; default: the newest.
      task: SeqIO task or mixture to measure on, with the vocabulary of the run; default: the run's own.
      task_modules: modules that register tasks; default: those of the run.
      max_batches: default: the complete split.

    Returns:
      `step` and the entries of `Evaluator.measure`.

    Raises:
      CheckpointError, ConfigError, DataError: as for `open_evaluated_run`, or a split without text.
    """
    check_limit("max_batches", max_batches)
    opened = open_evaluated_run(run, split=split, step=step, task=task, task_modules=task_modules)
    model = opened.model
    evaluator = Evaluator(model.config, model.vocabulary, model.mesh)
    result = {"step": model.step, **evaluator.measure(model.params, opened.split, max_batches)}
    if is_first() and max_batches is None and (file := opened.result_file(".json")):
        write_atomically(file, json.dumps(result, indent=2) + "\n")
    return result


class Evaluator:
    """Measures parameters of one configuration; the step is compiled once."""

    def __init__(self, config: Config, vocabulary: Vocabulary, mesh: Mesh):
        self._config, self._vocabulary, self._mesh = config, vocabulary, mesh
        rows = config.evaluation.batch_size or config.data.batch_size
        # Independent of the hosts and the mesh, since the noise depends on it.
        self._num_shards = math.gcd(config.data.shards, rows)
        self._batch_size = padded_batch_size(mesh, rows, self._num_shards)
        self._metrics = metrics_for(config.model)
        self._step = make_evaluation_step(config, self._metrics, mesh)

    def measure(
        self,
        params: Mapping,
        split: str,
        max_batches: int | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> dict | None:
        """One pass over `split`, or over its first `max_batches` batches; each host reads its data shards.

        Returns:
          None if `stopping()`, which is called before each batch, was true.

          `split`, and for a model that predicts tokens: `loss` (nats per target token), `perplexity`,
          `tokens`, `visible_accuracy`, `hidden_accuracy`, `baseline_accuracy` (of always guessing the most
          frequent hidden token of this very split), `hidden_loss`; `visible` and `hidden`, each an object
          with `loss`, `accuracy` and `tokens` over all targets that the encoder sees or does not see;
          `kinds`, such an object for each `TargetKind` by its lower-case name; and `span_length`, with
          `spans`, `mean_error` and `mean_absolute_error` (tokens per span) and the shares `exact`, `too_long`
          and `too_short` (see `span_length_sums`).

          For a model with a classification head: `loss` (nats per example), `accuracy`, `examples`, and
          `baseline_accuracy` (of always guessing the most frequent class of this very split).

        Raises:
          DataError: the split has no text.
        """
        batches = evaluation_batches(
            self._config.data,
            self._vocabulary,
            split,
            self._batch_size,
            max_batches,
            num_classes=self._config.model.num_classes,
            num_shards=self._num_shards,
        )
        totals = None
        for batch in batches:
            if stopping():
                return None
            rows = global_batch({name: batch[name] for name in BATCH}, self._mesh)
            sums = jax.device_get(self._step(params, rows))
            # In float64, counts stay exact beyond 2^24 tokens.
            sums = jax.tree.map(lambda value: np.asarray(value, np.float64), sums)
            totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
        if totals is None:
            raise DataError(f"split {split!r} of task {self._config.data.task!r} has no text to evaluate on")
        result = {"split": split}
        for metric, total in zip(self._metrics, totals, strict=True):
            result |= metric.summary(total)
        return result
