"""Cross-entropy over target tokens, and sums that are divided once, at the end.

B batch, T target, V vocabulary.
"""

import jax
import jax.numpy as jnp

from denoise_jax.config import OptimizerConfig

VISIBLE = 1  # `decoder_target_noise` of a token that the encoder saw unchanged; everything else is hidden

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
    logits_BTV: jax.Array, batch, config: OptimizerConfig, vocab_size: int
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
    real_BT, hidden_BT = _masks(batch)
    sums = {
        "loss": jnp.sum(nll_BT * real_BT),
        "tokens": jnp.sum(real_BT),
        "hidden_loss": jnp.sum(nll_BT * hidden_BT),
        "hidden_tokens": jnp.sum(hidden_BT),
    }
    return jnp.sum(objective_BT * real_BT), sums


def evaluation_sums(logits_BTV: jax.Array, batch) -> Sums:
    """Loss, right guesses and counts, apart for hidden and visible targets; and counts of hidden ids [V]."""
    targets_BT = batch["decoder_target_tokens"]
    nll_BT, _ = token_losses(logits_BTV, targets_BT)
    right_BT = (jnp.argmax(logits_BTV, axis=-1) == targets_BT).astype(jnp.float32)
    real_BT, hidden_BT = _masks(batch)
    sums: Sums = {}
    for kind, mask_BT in {"visible": real_BT - hidden_BT, "hidden": hidden_BT}.items():
        sums[f"{kind}_loss"] = jnp.sum(nll_BT * mask_BT)
        sums[f"{kind}_right"] = jnp.sum(right_BT * mask_BT)
        sums[f"{kind}_tokens"] = jnp.sum(mask_BT)
    ids_BT = jnp.where(hidden_BT > 0, targets_BT, 0)
    sums["hidden_counts_V"] = jnp.zeros(logits_BTV.shape[-1], jnp.float32).at[ids_BT].add(hidden_BT)
    return sums


def _masks(batch) -> tuple[jax.Array, jax.Array]:
    """float32 (real_BT, hidden_BT): targets that are not padding, and those of them that the noise hid."""
    noise_BT = batch["decoder_target_noise"]
    real_BT = (batch["decoder_segment_ids"] > 0).astype(jnp.float32)
    return real_BT, real_BT * (noise_BT != VISIBLE).astype(jnp.float32)
