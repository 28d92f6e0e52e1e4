"""Metrics of evaluation: what each one sums on the device, what it reports, and how that is shown.

`denoise-jax evaluate`, the validation lines of a run and its plots all read names from here. To add a metric,
subclass `Metric` and register it in `TOKEN_METRICS` or `CLASS_METRICS`.

B batch, T target positions, V vocabulary or classes, K kinds of target tokens (`TargetKind`, in order).
"""

import abc
import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from denoise_jax.config import ModelConfig
from denoise_jax.evaluation.span_length_metrics import span_length_summary, span_length_sums
from denoise_jax.model.batch import is_kind
from denoise_jax.model.cross_entropy import cross_entropy
from denoise_jax.target_kinds import HIDDEN, VISIBLE, TargetKind

GROUPS = {"visible": VISIBLE, "hidden": HIDDEN}

Sums = dict[str, jax.Array]
Totals = Mapping[str, np.ndarray]  # sums over all batches, float64
TableRow = tuple[str, str, str, str]  # tokens, count, loss, accuracy


class Scored(NamedTuple):
    """A batch of targets with the model's predictions for them. Integers are int32, 0 is padding."""

    logits_BTV: jax.Array
    nll_BT: jax.Array  # float32, nats
    guesses_BT: jax.Array  # most likely ids
    targets_BT: jax.Array
    kind_BT: jax.Array  # TargetKind
    segment_ids_BT: jax.Array


class Scalar(NamedTuple):
    """A reported number: its key in the result, and how it is shown."""

    key: str
    label: str
    axes: Literal["loss", "accuracy"] | None = None  # the plot it is drawn in
    colour: str = "C0"  # as matplotlib names it
    group: str | None = None  # shown only if the result has tokens of this group


class Metric(abc.ABC):
    """Sums over the targets of a batch on the device, and a summary of their totals on the host."""

    scalars: tuple[Scalar, ...] = ()

    @abc.abstractmethod
    def sums(self, scored: Scored) -> Sums:
        """Float32 sums over a batch."""

    @abc.abstractmethod
    def summary(self, totals: Totals) -> dict:
        """JSON entries of the result, from the sums over all batches."""

    def table_rows(self, result: Mapping) -> list[TableRow]:
        """Rows in the table of `denoise-jax evaluate`."""
        del result
        return []

    def note(self, result: Mapping) -> str | None:
        """A line below that table."""
        del result
        return None


class TokenMetrics(Metric):
    """Loss and accuracy of each kind of target token, and of the visible and the hidden ones."""

    scalars = (
        Scalar("loss", "loss", "loss"),
        Scalar("perplexity", "perplexity"),
        Scalar("hidden_loss", "hidden loss", "loss", "C1"),
        Scalar("visible_accuracy", "visible accuracy", "accuracy", "C2", group="visible"),
        Scalar("hidden_accuracy", "hidden accuracy", "accuracy", "C1"),
    )

    def sums(self, scored: Scored) -> Sums:
        is_kind_BTK = jax.nn.one_hot(scored.kind_BT - 1, len(TargetKind), dtype=jnp.float32)
        correct_BT = (scored.guesses_BT == scored.targets_BT).astype(jnp.float32)
        return {
            "loss_K": jnp.sum(scored.nll_BT[..., None] * is_kind_BTK, axis=(0, 1)),
            "correct_K": jnp.sum(correct_BT[..., None] * is_kind_BTK, axis=(0, 1)),
            "tokens_K": jnp.sum(is_kind_BTK, axis=(0, 1)),
        }

    def summary(self, totals: Totals) -> dict:
        def over(kinds: Sequence[TargetKind]) -> dict:
            loss, correct, tokens = (
                sum(totals[name][kind - 1] for kind in kinds) for name in ("loss_K", "correct_K", "tokens_K")
            )
            return {"loss": _ratio(loss, tokens), "accuracy": _ratio(correct, tokens), "tokens": int(tokens)}

        every, groups = over(tuple(TargetKind)), {name: over(kinds) for name, kinds in GROUPS.items()}
        return {
            "loss": every["loss"],
            "perplexity": math.exp(min(every["loss"], 700.0)),  # above, exp overflows
            "tokens": every["tokens"],
            "visible_accuracy": groups["visible"]["accuracy"],
            "hidden_accuracy": groups["hidden"]["accuracy"],
            "hidden_loss": groups["hidden"]["loss"],
            **groups,
            "kinds": {kind.name.lower(): over((kind,)) for kind in (*VISIBLE, *HIDDEN)},
        }

    def table_rows(self, result: Mapping) -> list[TableRow]:
        def row(name: str, values: Mapping) -> TableRow:
            return name, f"{values['tokens']:,}", f"{values['loss']:.3f}", f"{values['accuracy']:.3f}"

        rows = []
        for group, kinds in GROUPS.items():
            rows.append(row(group, result[group]))
            for name in (kind.name.lower() for kind in kinds):
                if result["kinds"][name]["tokens"]:
                    rows.append(row("  " + name.replace("_", " "), result["kinds"][name]))
        return rows


class MostFrequentToken(Metric):
    """The baseline of hidden accuracy: always guessing the most frequent hidden token of this very split."""

    scalars = (Scalar("baseline_accuracy", "most frequent token", "accuracy", "0.5"),)

    def sums(self, scored: Scored) -> Sums:
        return {"counts_V": _counts(scored, is_kind(scored.kind_BT, HIDDEN))}

    def summary(self, totals: Totals) -> dict:
        return {"baseline_accuracy": _ratio(totals["counts_V"].max(), totals["counts_V"].sum())}

    def table_rows(self, result: Mapping) -> list[TableRow]:
        return [("hidden, most frequent token", "", "", f"{result['baseline_accuracy']:.3f}")]


class SpanLengths(Metric):
    """Predicted lengths of masked spans; see `span_length_sums`."""

    def sums(self, scored: Scored) -> Sums:
        return span_length_sums(scored.guesses_BT, scored.targets_BT, scored.kind_BT, scored.segment_ids_BT)

    def summary(self, totals: Totals) -> dict:
        return {"span_length": span_length_summary(totals)}

    def note(self, result: Mapping) -> str | None:
        lengths = result["span_length"]
        if not lengths["spans"]:
            return None
        return (
            f"length of {lengths['spans']:,} masked spans: {lengths['exact']:.1%} exact, "
            f"{lengths['too_short']:.1%} too short, {lengths['too_long']:.1%} too long, "
            f"mean error {lengths['mean_error']:+.2f} tokens ({lengths['mean_absolute_error']:.2f} absolute)"
        )


class ClassMetrics(Metric):
    """Loss and accuracy per example of a classification head; the baseline is the most frequent class."""

    scalars = (
        Scalar("loss", "loss", "loss"),
        Scalar("accuracy", "accuracy", "accuracy", "C1"),
        Scalar("baseline_accuracy", "most frequent class", "accuracy", "0.5"),
    )

    def sums(self, scored: Scored) -> Sums:
        example_BT = scored.kind_BT > 0
        return {
            "loss": jnp.sum(scored.nll_BT, where=example_BT),
            "correct": jnp.sum((scored.guesses_BT == scored.targets_BT) & example_BT, dtype=jnp.float32),
            "counts_V": _counts(scored, example_BT),
        }

    def summary(self, totals: Totals) -> dict:
        examples = totals["counts_V"].sum()
        return {
            "loss": _ratio(totals["loss"], examples),
            "accuracy": _ratio(totals["correct"], examples),
            "baseline_accuracy": _ratio(totals["counts_V"].max(), examples),
            "examples": int(examples),
        }

    def note(self, result: Mapping) -> str | None:
        return f"{result['examples']:,} examples"


TOKEN_METRICS = (TokenMetrics(), MostFrequentToken(), SpanLengths())
CLASS_METRICS = (ClassMetrics(),)


def metrics_for(config: ModelConfig) -> tuple[Metric, ...]:
    """The metrics of a model that predicts tokens, or of one with a classification head."""
    return TOKEN_METRICS if config.num_classes is None else CLASS_METRICS


def metrics_in(result: Mapping) -> tuple[Metric, ...]:
    """The metrics whose summaries make up `result`."""
    return CLASS_METRICS if "examples" in result else TOKEN_METRICS


def score(logits_BTV: jax.Array, batch: Mapping[str, jax.Array]) -> Scored:
    """A batch (`denoise_jax.model.batch.BATCH`) with the model's logits for it, as metrics read it."""
    targets_BT = batch["decoder_target_tokens"]
    nll_BT, _ = cross_entropy(logits_BTV, targets_BT)
    guesses_BT = jnp.argmax(logits_BTV, axis=-1).astype(targets_BT.dtype)
    kind_BT, segment_ids_BT = batch["decoder_target_kind"], batch["decoder_segment_ids"]
    return Scored(logits_BTV, nll_BT, guesses_BT, targets_BT, kind_BT, segment_ids_BT)


def measured_scalars(result: Mapping) -> dict[Scalar, float]:
    """The scalars to show of an evaluation's result."""
    scalars = [scalar for metric in metrics_in(result) for scalar in metric.scalars]
    return {s: result[s.key] for s in scalars if s.group is None or result[s.group]["tokens"]}


def describe(result: Mapping) -> str:
    """The scalars in one line: `loss 1.545, perplexity 4.690, ...`."""
    return ", ".join(f"{scalar.label} {value:.3f}" for scalar, value in measured_scalars(result).items())


def _counts(scored: Scored, counted_BT: jax.Array) -> jax.Array:
    """How often each id is a target, where `counted_BT`; float32 [V]."""
    ids_BT = jnp.where(counted_BT, scored.targets_BT, 0)
    counts_V = jnp.zeros(scored.logits_BTV.shape[-1], jnp.float32)
    return counts_V.at[ids_BT].add(counted_BT.astype(jnp.float32))


def _ratio(value: float, count: float) -> float:
    return float(value) / float(count) if count else 0.0
