"""How well the model knows the length of masked spans: whether it ends each span where the text does."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from denoise_jax.model.batch import is_kind
from denoise_jax.target_kinds import VISIBLE, TargetKind


def span_length_sums(
    guesses_BT: jax.Array, targets_BT: jax.Array, kind_BT: jax.Array, segment_ids_BT: jax.Array
) -> dict[str, jax.Array]:
    """Errors in the predicted length of masked spans under teacher forcing.

    A span is a run of MASKED targets within a segment that is followed by a visible token, its closing
    token. The model ends the span at the first position, from the span's first token to its closing token,
    where it guesses the closing token. A guess inside the span is ignored if the target there equals the
    closing token, so that a correct guess is never an error. If the model does not guess the closing token
    even in its place, the span counts as too long by 1: under teacher forcing there is no telling how much
    longer it would have become. Adjacent masks form one span. Spans without a closing token (at the end of a
    segment, or followed by a hidden token of another kind) are not counted.

    Args:
      guesses_BT: most likely tokens, int32.
      targets_BT: target tokens, int32; 0 is padding.
      kind_BT: `TargetKind`, int32; 0 is padding.
      segment_ids_BT: int32; 0 is padding.

    Returns:
      float32 scalars: `spans`; `exact`, `too_long` and `too_short`, which add up to it; and `error` and
      `absolute_error`, summed over spans, in tokens (positive: too long).
    """
    length = targets_BT.shape[1]
    position_BT = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32)[None], targets_BT.shape)
    masked_BT = kind_BT == TargetKind.MASKED
    same_segment_BT = _shift_left(segment_ids_BT) == segment_ids_BT  # as the next position
    continues_BT = masked_BT & same_segment_BT & _shift_left(masked_BT)
    closes_BT = masked_BT & same_segment_BT & _shift_left(is_kind(kind_BT, VISIBLE))
    starts_BT = masked_BT & ~jnp.pad(continues_BT, ((0, 0), (1, 0)))[:, :-1]
    # At each position of a span: the position of its closing token; `length` after the row's last span.
    end_BT = _suffix_min(jnp.where(masked_BT & ~continues_BT, position_BT + 1, length))
    counted_BT = starts_BT & jnp.take_along_axis(closes_BT, end_BT - 1, axis=1)
    closing_BT = jnp.take_along_axis(targets_BT, jnp.minimum(end_BT, length - 1), axis=1)
    early_BT = (guesses_BT == closing_BT) & (targets_BT != closing_BT)
    ends_here_BT = jnp.where(masked_BT, early_BT, guesses_BT == targets_BT)
    predicted_end_BT = _suffix_min(jnp.where(ends_here_BT, position_BT, length))
    error_BT = jnp.where(predicted_end_BT <= end_BT, predicted_end_BT - end_BT, 1)

    def total(values_BT: jax.Array) -> jax.Array:
        return jnp.sum(values_BT.astype(jnp.float32), where=counted_BT)

    return {
        "spans": total(counted_BT),
        "exact": total(error_BT == 0),
        "too_long": total(error_BT > 0),
        "too_short": total(error_BT < 0),
        "error": total(error_BT),
        "absolute_error": total(jnp.abs(error_BT)),
    }


def span_length_summary(totals: Mapping[str, np.ndarray]) -> dict[str, float]:
    """`spans`, shares `exact`, `too_long`, `too_short`, and the mean errors in tokens per span."""
    spans = max(float(totals["spans"]), 1.0)
    return {
        "spans": int(totals["spans"]),
        "exact": float(totals["exact"]) / spans,
        "mean_absolute_error": float(totals["absolute_error"]) / spans,
        "mean_error": float(totals["error"]) / spans,
        "too_long": float(totals["too_long"]) / spans,
        "too_short": float(totals["too_short"]) / spans,
    }


def _shift_left(values_BT: jax.Array) -> jax.Array:
    """The value at the next position; 0 at the last."""
    return jnp.pad(values_BT, ((0, 0), (0, 1)))[:, 1:]


def _suffix_min(values_BT: jax.Array) -> jax.Array:
    """The minimum over this position and all later ones."""
    return jax.lax.cummin(values_BT, axis=1, reverse=True)
