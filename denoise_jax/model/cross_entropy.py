"""Cross-entropy of target tokens, shared by the training objective and evaluation."""

import jax
import jax.numpy as jnp


def cross_entropy(logits_BTV: jax.Array, targets_BT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Negative log-likelihood and log-partition function (log Z) of each token.

    Args:
      logits_BTV: any float dtype; sums are taken in float32.
      targets_BT: int32 ids.

    Returns:
      (nll_BT, log_z_BT), float32, in nats.
    """
    logits_BTV = logits_BTV.astype(jnp.float32)
    log_z_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
    # A masked sum instead of a gather keeps the vocabulary axis sharded, and XLA fuses it.
    one_hot_BTV = jax.nn.one_hot(targets_BT, logits_BTV.shape[-1], dtype=jnp.float32)
    return log_z_BT - jnp.sum(logits_BTV * one_hot_BTV, axis=-1), log_z_BT
