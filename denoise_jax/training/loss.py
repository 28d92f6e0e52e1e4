"""Cross-entropy over target tokens, and sums that are divided once, at the end.

Targets are the positions with a `TargetKind`; 0 is padding, and the tokens before the last where a head tells
classes. B batch, T target, V vocabulary or classes, K kinds of target tokens (`TargetKind`, in order).
"""

import jax
import jax.numpy as jnp

from denoise_jax.config import LossConfig
from denoise_jax.target_kinds import HIDDEN, VISIBLE, TargetKind

Sums = dict[str, jax.Array]


def token_losses(
    logits_BTV: jax.Array,
    targets_BT: jax.Array,
    *,
    vocab_size: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Per-token negative log-likelihood, and what training minimises in its place.

    Args:
      logits_BTV: any float dtype; sums are taken in float32.
      targets_BT: int32 ids.
      vocab_size: columns that are real; those behind it pad the table and get no smoothing mass.
      label_smoothing: mass spread evenly over the vocabulary (Szegedy et al. 2016).
      z_loss: weight of log(Z)^2 (Chowdhery et al. 2022, section 5).

    Returns:
      (nll_BT, objective_BT), float32 nats; equal when both options are 0.
    """
    logits_BTV = logits_BTV.astype(jnp.float32)
    log_z_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
    # A masked sum instead of a gather: it keeps the vocabulary sharded, and XLA fuses it with the rest.
    hit_BTV = jax.nn.one_hot(targets_BT, logits_BTV.shape[-1], dtype=jnp.float32)
    nll_BT = log_z_BT - jnp.sum(logits_BTV * hit_BTV, axis=-1)
    objective_BT = nll_BT
    if label_smoothing:
        even_BT = log_z_BT - jnp.mean(logits_BTV[..., :vocab_size], axis=-1)
        objective_BT = (1 - label_smoothing) * nll_BT + label_smoothing * even_BT
    if z_loss:
        objective_BT = objective_BT + z_loss * jnp.square(log_z_BT)
    return nll_BT, objective_BT


def training_sums(
    logits_BTV: jax.Array, batch, config: LossConfig, vocab_size: int
) -> tuple[jax.Array, Sums]:
    """Sum of the objective over the targets of a (micro)batch, and sums for the log."""
    targets_BT = batch["decoder_target_tokens"]
    nll_BT, objective_BT = token_losses(
        logits_BTV,
        targets_BT,
        vocab_size=vocab_size,
        label_smoothing=config.label_smoothing,
        z_loss=config.z_loss,
    )
    kind_BT = batch["decoder_target_kind"]
    real_BT = (kind_BT > 0).astype(jnp.float32)
    hidden_BT = _among(kind_BT, HIDDEN).astype(jnp.float32)
    sums = {
        "loss": jnp.sum(nll_BT * real_BT),
        "tokens": jnp.sum(real_BT),
        "hidden_loss": jnp.sum(nll_BT * hidden_BT),
        "hidden_tokens": jnp.sum(hidden_BT),
    }
    return jnp.sum(objective_BT * real_BT), sums


def evaluation_sums(logits_BTV: jax.Array, batch) -> Sums:
    """Loss, right guesses and counts for each kind of target; counts of hidden ids; errors of span lengths.

    Returns:
      float32 `loss_K`, `right_K`, `tokens_K`, `hidden_counts_V`, and the scalars of `span_length_sums`.
    """
    targets_BT, kind_BT = batch["decoder_target_tokens"], batch["decoder_target_kind"]
    nll_BT, _ = token_losses(logits_BTV, targets_BT)
    guesses_BT = jnp.argmax(logits_BTV, axis=-1).astype(targets_BT.dtype)
    is_kind_BTK = jax.nn.one_hot(kind_BT - 1, len(TargetKind), dtype=jnp.float32)  # 0 is no kind
    right_BT = (guesses_BT == targets_BT).astype(jnp.float32)
    hidden_BT = _among(kind_BT, HIDDEN).astype(jnp.float32)
    ids_BT = jnp.where(hidden_BT > 0, targets_BT, 0)
    return {
        "loss_K": jnp.sum(nll_BT[..., None] * is_kind_BTK, axis=(0, 1)),
        "right_K": jnp.sum(right_BT[..., None] * is_kind_BTK, axis=(0, 1)),
        "tokens_K": jnp.sum(is_kind_BTK, axis=(0, 1)),
        "hidden_counts_V": jnp.zeros(logits_BTV.shape[-1], jnp.float32).at[ids_BT].add(hidden_BT),
        **span_length_sums(guesses_BT, targets_BT, kind_BT, batch["decoder_segment_ids"]),
    }


def span_length_sums(
    guesses_BT: jax.Array, targets_BT: jax.Array, kind_BT: jax.Array, segment_ids_BT: jax.Array
) -> Sums:
    """How well the decoder knows, fed the true tokens, where masked spans end.

    A span is a run of MASKED targets in a segment, with a token behind it that the encoder saw: the closing
    token. The decoder ends the span where it guesses that token: at the first place from the span's first
    token to the one behind its last. A guess inside the span counts unless the target there is the same
    token, so that right guesses alone are never an error. If it does not end the span behind its last token
    either, the span is too long by 1; how much longer it would have become cannot be told from guesses that
    are fed the true tokens. Neighbouring masks are one span, and spans with no closing token (at the end of
    a segment, or before a target that is hidden in another way) are left out.

    Args: all int32; guesses are the most likely tokens, kinds are TargetKind, 0 is padding in both others.

    Returns:
      float32 scalars: `spans`; `spans_exact`, `spans_too_long`, `spans_too_short`, which add up to it; and
      `span_error` and `span_absolute_error`, summed over spans, in tokens, longer being positive.
    """
    length = targets_BT.shape[1]
    place_BT = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32)[None], targets_BT.shape)
    masked_BT = kind_BT == TargetKind.MASKED
    joined_BT = _shifted(segment_ids_BT) == segment_ids_BT  # the next place is of the same segment
    goes_on_BT = masked_BT & joined_BT & _shifted(masked_BT)
    closes_BT = masked_BT & joined_BT & _shifted(_among(kind_BT, VISIBLE))
    starts_BT = masked_BT & ~jnp.pad(goes_on_BT, ((0, 0), (1, 0)))[:, :-1]
    # Place of the closing token, from each place of the span; `length` past the last span of the row.
    end_BT = _next(jnp.where(masked_BT & ~goes_on_BT, place_BT + 1, length))
    counted_BT = starts_BT & jnp.take_along_axis(closes_BT, end_BT - 1, axis=1)
    closing_BT = jnp.take_along_axis(targets_BT, jnp.minimum(end_BT, length - 1), axis=1)
    early_BT = (guesses_BT == closing_BT) & (targets_BT != closing_BT)
    ended_BT = _next(jnp.where(jnp.where(masked_BT, early_BT, guesses_BT == targets_BT), place_BT, length))
    error_BT = jnp.where(ended_BT <= end_BT, ended_BT - end_BT, 1)

    def total(values_BT: jax.Array) -> jax.Array:
        return jnp.sum(values_BT.astype(jnp.float32), where=counted_BT)

    return {
        "spans": total(counted_BT),
        "spans_exact": total(error_BT == 0),
        "spans_too_long": total(error_BT > 0),
        "spans_too_short": total(error_BT < 0),
        "span_error": total(error_BT),
        "span_absolute_error": total(jnp.abs(error_BT)),
    }


def _among(kind_BT: jax.Array, kinds: tuple[TargetKind, ...]) -> jax.Array:
    return jnp.any(kind_BT[..., None] == jnp.array(kinds, kind_BT.dtype)[None, None], axis=-1)


def _shifted(values_BT: jax.Array) -> jax.Array:
    """The value of the next place; 0 behind the last."""
    return jnp.pad(values_BT, ((0, 0), (0, 1)))[:, 1:]


def _next(places_BT: jax.Array) -> jax.Array:
    """The least of the values at each place and behind it."""
    return jax.lax.cummin(places_BT, axis=1, reverse=True)
