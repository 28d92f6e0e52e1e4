"""Dropout and LayerDrop from explicit keys: the model holds no random state, so checkpoints hold none."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes each element with probability `rate` and rescales the rest, so that the mean is unchanged.

    Without a key, x is returned unchanged. One 32-bit random word serves two elements, because on a CPU
    dropout costs as much as its random numbers. The rate is therefore rounded to a multiple of 2**-16 (never
    to 0 or 1), and the scale is that of the rounded rate.
    """
    if key is None or rate == 0:
        return x
    *rest, width = x.shape
    words = jax.random.bits(key, (*rest, -(-width // 2)), "uint32")
    halves = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(*rest, -1)[..., :width]
    threshold = min(max(round((1 - rate) * 2**16), 1), 2**16 - 1)
    return jnp.where(halves < threshold, x * (2**16 / threshold), 0)


def layer_drop(
    layer: Callable[[jax.Array], jax.Array], x: jax.Array, rate: float, key: jax.Array | None
) -> jax.Array:
    """layer(x) or, with probability `rate`, x itself: LayerDrop (Fan et al. 2019). Without a key, layer(x).

    One draw per batch, so a dropped layer is computed neither forwards nor backwards, and its gradient is
    zero. (Without rematerialisation, zeros are still written in place of its saved activations.) Outputs are
    not rescaled, as in BART's published code.
    """
    if key is None or rate == 0:
        return layer(x)
    return jax.lax.cond(jax.random.bernoulli(key, rate), lambda x: x, layer, x)


def named_keys(key: jax.Array | None, *names: str) -> dict[str, jax.Array | None]:
    """One key per name, split from `key`; None for each if `key` is None (no dropout)."""
    keys = [None] * len(names) if key is None else jax.random.split(key, len(names))
    return dict(zip(names, keys, strict=True))


def stacked_keys(key: jax.Array | None, num: int) -> jax.Array | None:
    """`num` keys stacked on a leading axis, or None if `key` is None."""
    return None if key is None else jax.random.split(key, num)
