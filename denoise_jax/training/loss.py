"""The training objective and the sums logged with it. Sums are divided once, when they are reported.

B batch, T target positions, V vocabulary or classes.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from denoise_jax.config import LossConfig
from denoise_jax.model.batch import is_kind
from denoise_jax.model.cross_entropy import cross_entropy
from denoise_jax.target_kinds import HIDDEN


def token_objective(
    logits_BTV: jax.Array, targets_BT: jax.Array, config: LossConfig, vocab_size: int
) -> tuple[jax.Array, jax.Array]:
    """Negative log-likelihood of each token, and what training minimises instead.

    Adds label smoothing (Szegedy et al. 2016, section 7) and z-loss (Chowdhery et al. 2022, section 5).

    Args:
      logits_BTV: any float dtype.
      targets_BT: int32 ids.
      vocab_size: real columns of the logits; padding columns after them get no smoothing mass.

    Returns:
      (nll_BT, objective_BT), float32, in nats; equal if both options are 0.
    """
    nll_BT, log_z_BT = cross_entropy(logits_BTV, targets_BT)
    objective_BT = nll_BT
    if config.label_smoothing:
        uniform_BT = log_z_BT - jnp.mean(logits_BTV[..., :vocab_size].astype(jnp.float32), axis=-1)
        objective_BT = (1 - config.label_smoothing) * nll_BT + config.label_smoothing * uniform_BT
    if config.z_loss:
        objective_BT = objective_BT + config.z_loss * jnp.square(log_z_BT)
    return nll_BT, objective_BT


def training_sums(
    logits_BTV: jax.Array, batch: Mapping[str, jax.Array], config: LossConfig, vocab_size: int
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The objective summed over the targets of a (micro)batch, and float32 sums for the log.

    Positions without a `TargetKind` count for nothing: padding, and all but the last token of a segment if
    the model has a classification head.

    Returns:
      (objective, {"loss", "tokens", "hidden_loss", "hidden_tokens"}), all scalars.
    """
    nll_BT, objective_BT = token_objective(logits_BTV, batch["decoder_target_tokens"], config, vocab_size)
    kind_BT = batch["decoder_target_kind"]
    target_BT = (kind_BT > 0).astype(jnp.float32)
    hidden_BT = is_kind(kind_BT, HIDDEN).astype(jnp.float32)
    sums = {
        "loss": jnp.sum(nll_BT * target_BT),
        "tokens": jnp.sum(target_BT),
        "hidden_loss": jnp.sum(nll_BT * hidden_BT),
        "hidden_tokens": jnp.sum(hidden_BT),
    }
    return jnp.sum(objective_BT * target_BT), sums
