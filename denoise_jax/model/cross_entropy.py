"""Cross-entropy of target tokens, shared by the training objective and evaluation."""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def cross_entropy(logits_BTV: jax.Array, targets_BT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Negative log-likelihood and log-partition function (log Z) of each token.

    Sums are taken in float32, but nothing of the size of the logits is stored in more than their dtype, and
    the backward pass needs the logits and log Z only.

    Args:
      logits_BTV: any float dtype.
      targets_BT: int32 ids.

    Returns:
      (nll_BT, log_z_BT), float32, in nats.
    """
    maximum_BT1 = logits_BTV.max(axis=-1, keepdims=True).astype(jnp.float32)
    wide_BTV = logits_BTV.astype(jnp.float32)
    log_z_BT = jnp.log(jnp.exp(wide_BTV - maximum_BT1).sum(axis=-1)) + maximum_BT1[..., 0]
    target_logit_BT = jax.lax.platform_dependent(
        logits_BTV, targets_BT, cpu=_gather_targets, default=_mask_targets
    )
    return log_z_BT - target_logit_BT, log_z_BT


def _gather_targets(logits_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    target_BT1 = jnp.take_along_axis(logits_BTV, targets_BT[..., None], axis=-1)
    return target_BT1[..., 0].astype(jnp.float32)


def _mask_targets(logits_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    """Without a gather, so that the vocabulary may be sharded; XLA fuses it, but for CPUs."""
    return jnp.where(_is_target(logits_BTV, targets_BT), logits_BTV.astype(jnp.float32), 0).sum(axis=-1)


def _forward(logits_BTV, targets_BT):
    nll_BT, log_z_BT = cross_entropy(logits_BTV, targets_BT)
    return (nll_BT, log_z_BT), (logits_BTV, targets_BT, log_z_BT)


def _backward(saved, gradients):
    logits_BTV, targets_BT, log_z_BT = saved
    of_nll_BT1, of_log_z_BT1 = (gradient_BT[..., None] for gradient_BT in gradients)
    softmax_BTV = jnp.exp(logits_BTV.astype(jnp.float32) - log_z_BT[..., None])
    target_BTV = jnp.where(_is_target(logits_BTV, targets_BT), of_nll_BT1, 0)
    of_logits_BTV = softmax_BTV * (of_nll_BT1 + of_log_z_BT1) - target_BTV
    return of_logits_BTV.astype(logits_BTV.dtype), None


cross_entropy.defvjp(_forward, _backward)


def _is_target(logits_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    return jax.lax.broadcasted_iota(jnp.int32, logits_BTV.shape, 2) == targets_BT[..., None]
