"""Loss and accuracy on a split with fixed noise, apart for each kind of target token; and span lengths."""

import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from denoise_jax.config import Config
from denoise_jax.data.loader import evaluation_batches
from denoise_jax.errors import DataError
from denoise_jax.parallel.mesh import batch_shards
from denoise_jax.parallel.sharding import global_batch
from denoise_jax.target_kinds import HIDDEN, VISIBLE, TargetKind
from denoise_jax.training.step import BATCH, make_evaluation_step
from denoise_jax.vocabulary.base import Vocabulary

GROUPS = {"visible": VISIBLE, "hidden": HIDDEN}


class Evaluator:
    """Measures parameters of one configuration; the step is compiled once."""

    def __init__(self, config: Config, vocabulary: Vocabulary, mesh: Mesh):
        self._config, self._vocabulary, self._mesh = config, vocabulary, mesh
        rows, shards = config.evaluation.batch_size or config.data.batch_size, batch_shards(mesh)
        self._batch_size = -(-rows // shards) * shards  # the last batch is filled up with empty rows anyway
        self._step = make_evaluation_step(config, mesh)

    def measure(self, params: Mapping, split: str, max_batches: int | None = None) -> dict:
        """One pass over `split`, or `max_batches` of it.

        Returns:
          `split`, `loss` (nats per target token), `perplexity`, `tokens`, `visible_accuracy`,
          `hidden_accuracy`, `baseline_accuracy` (always guessing the most frequent hidden token of this very
          split), `hidden_loss`; `visible` and `hidden`, objects with `loss`, `accuracy` and `tokens` of all
          tokens that the encoder saw, or did not; `kinds`, such an object for each `TargetKind` by its name
          in small letters, where `visible` are those seen in their place; and `span_length`, with `spans`,
          `mean_error` and `mean_absolute_error` (tokens a span), and the shares `exact`, `too_long`,
          `too_short`, as `span_length_sums` counts them.

          Of a model with a head: `split`, `loss` (nats per example), `accuracy`, `examples`, and
          `baseline_accuracy` (always guessing the most frequent class of this very split).

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
        )
        total: dict[str, np.ndarray] = {}
        for batch in batches:
            rows = global_batch({name: batch[name] for name in BATCH}, self._mesh)
            sums = jax.device_get(self._step(params, rows))
            # float64, so that counts stay exact beyond 2^24 tokens
            total = {name: total.get(name, 0) + np.asarray(value, np.float64) for name, value in sums.items()}
        if not total:
            raise DataError(f"split {split!r} of task {self._config.data.task!r} has no text to evaluate on")
        if self._config.model.num_classes is not None:
            return _class_summary(total, split)
        return _summary(total, split)


def _class_summary(total: Mapping[str, np.ndarray], split: str) -> dict:
    every = _tokens(total, tuple(TargetKind))
    return {
        "split": split,
        "loss": every["loss"],
        "accuracy": every["accuracy"],
        "baseline_accuracy": _ratio(total["hidden_counts_V"].max(), every["tokens"]),
        "examples": every["tokens"],
    }


def _summary(total: Mapping[str, np.ndarray], split: str) -> dict:
    groups = {name: _tokens(total, kinds) for name, kinds in GROUPS.items()}
    every = _tokens(total, tuple(TargetKind))
    return {
        "split": split,
        "loss": every["loss"],
        "perplexity": math.exp(min(every["loss"], 700.0)),
        "tokens": every["tokens"],
        "visible_accuracy": groups["visible"]["accuracy"],
        "hidden_accuracy": groups["hidden"]["accuracy"],
        "baseline_accuracy": _ratio(total["hidden_counts_V"].max(), groups["hidden"]["tokens"]),
        "hidden_loss": groups["hidden"]["loss"],
        **groups,
        "kinds": {kind.name.lower(): _tokens(total, (kind,)) for kind in (*VISIBLE, *HIDDEN)},
        "span_length": {
            "spans": int(total["spans"]),
            "exact": _ratio(total["spans_exact"], total["spans"]),
            "mean_absolute_error": _ratio(total["span_absolute_error"], total["spans"]),
            "mean_error": _ratio(total["span_error"], total["spans"]),
            "too_long": _ratio(total["spans_too_long"], total["spans"]),
            "too_short": _ratio(total["spans_too_short"], total["spans"]),
        },
    }


def _tokens(total: Mapping[str, np.ndarray], kinds: Sequence[TargetKind]) -> dict:
    """Loss, accuracy and number of the tokens of these kinds."""
    loss, right, tokens = (
        sum(total[name][kind - 1] for kind in kinds) for name in ("loss_K", "right_K", "tokens_K")
    )
    return {"loss": _ratio(loss, tokens), "accuracy": _ratio(right, tokens), "tokens": int(tokens)}


def _ratio(value, count) -> float:
    return float(value) / float(count) if count else 0.0
