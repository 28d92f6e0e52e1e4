"""Loss and accuracy on a split with fixed noise, apart for visible and hidden tokens."""

import math
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import Mesh

from denoise_jax.config import Config
from denoise_jax.data.loader import evaluation_batches
from denoise_jax.data.vocabulary import Vocabulary
from denoise_jax.errors import DataError
from denoise_jax.parallel.mesh import batch_shards
from denoise_jax.parallel.sharding import global_batch
from denoise_jax.training.step import BATCH, make_evaluation_step

KINDS = ("visible", "hidden")


class Evaluator:
    """Measures parameters of one configuration; the step is compiled once."""

    def __init__(self, config: Config, vocabulary: Vocabulary, mesh: Mesh):
        self._config, self._vocabulary, self._mesh = config, vocabulary, mesh
        rows, shards = config.evaluation.batch_size or config.data.batch_size, batch_shards(mesh)
        self._batch_size = -(-rows // shards) * shards  # the last batch is filled up with empty rows anyway
        self._step = make_evaluation_step(config, len(vocabulary), mesh)

    def measure(self, params: Mapping, split: str, max_batches: int | None = None) -> dict:
        """One pass over `split`, or `max_batches` of it.

        Returns:
          `split`, `loss` (nats per target token), `perplexity`, `tokens`, `visible_accuracy`,
          `hidden_accuracy`, `baseline_accuracy` (always guessing the most frequent hidden token of this very
          split), and for each kind of token an object with `loss`, `accuracy`, `tokens`.

        Raises:
          DataError: the split has no text.
        """
        batches = evaluation_batches(
            self._config.data, self._vocabulary, split, self._batch_size, max_batches
        )
        total: dict[str, np.ndarray] = {}
        for batch in batches:
            rows = global_batch({name: batch[name] for name in BATCH}, self._mesh)
            sums = jax.device_get(self._step(params, rows))
            # float64, so that counts stay exact beyond 2^24 tokens
            total = {name: total.get(name, 0) + np.asarray(value, np.float64) for name, value in sums.items()}
        if not total:
            raise DataError(f"split {split!r} of task {self._config.data.task!r} has no text to evaluate on")
        return _summary(total, split)


def _summary(total: Mapping[str, np.ndarray], split: str) -> dict:
    kinds = {
        kind: {
            "loss": _ratio(total[f"{kind}_loss"], total[f"{kind}_tokens"]),
            "accuracy": _ratio(total[f"{kind}_right"], total[f"{kind}_tokens"]),
            "tokens": int(total[f"{kind}_tokens"]),
        }
        for kind in KINDS
    }
    tokens = sum(kind["tokens"] for kind in kinds.values())
    loss = _ratio(sum(total[f"{kind}_loss"] for kind in KINDS), tokens)
    return {
        "split": split,
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "tokens": tokens,
        "visible_accuracy": kinds["visible"]["accuracy"],
        "hidden_accuracy": kinds["hidden"]["accuracy"],
        "baseline_accuracy": _ratio(total["hidden_counts_V"].max(), total["hidden_tokens"]),
        "hidden_loss": kinds["hidden"]["loss"],
        **kinds,
    }


def _ratio(value, count) -> float:
    return float(value) / float(count) if count else 0.0
