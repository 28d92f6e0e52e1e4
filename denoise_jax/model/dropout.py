"""Dropout and LayerDrop from explicit keys: the model holds no random state, so checkpoints hold none.

The bits of dropout are a hash of an element's position and the key. Unlike bits from `jax.random`, they fuse
into the operation that uses them, so that dropout costs no memory traffic and next to no time (on a CPU a
fourteenth of threefry's), a kernel can compute them block by block, and they do not depend on the mesh.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes each element with probability `rate` and rescales the rest, so that the mean is unchanged.

    Without a key, x, of two axes or more, is returned unchanged. The backward pass draws the same again:
    nothing is kept for it.
    """
    if key is None or rate == 0:
        return x
    return _dropout(x, rate, jax.random.key_data(key)[:2])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _dropout(x: jax.Array, rate: float, seed_2: jax.Array) -> jax.Array:
    words = matrix_words(seed_2, x.shape[:-2])
    keep = keep_mask(words[..., None, None], seed_2[1], _positions(x.shape), rate)
    return jnp.where(keep, x * (1 / (1 - rate)), 0)


_dropout.defvjp(
    lambda x, rate, seed_2: (_dropout(x, rate, seed_2), seed_2),
    lambda rate, seed_2, gradient: (_dropout(gradient, rate, seed_2), None),
)


def keep_mask(word: jax.Array, second_word: jax.Array, positions: jax.Array, rate: float) -> jax.Array:
    """Which elements of a matrix are kept, bool, each with probability 1 - `rate`.

    Args:
      word: uint32, one of `matrix_words`; broadcast against `positions`.
      second_word: uint32 scalar, the second of the seed.
      positions: uint32, row * columns + column of each element.
    """
    threshold = min(max(round((1 - rate) * 2**32), 1), 2**32 - 1)
    return _hash(positions, word, second_word) < np.uint32(threshold)


def matrix_words(seed_2: jax.Array, leading: tuple[int, ...]) -> jax.Array:
    """One uint32 for each matrix in an array whose axes but the last two are `leading`."""
    index = jnp.arange(math.prod(leading), dtype=jnp.uint32).reshape(leading)
    return _hash(index, seed_2[1], seed_2[0])


def _positions(shape: tuple[int, ...]) -> jax.Array:
    *leading, rows, columns = shape
    matrix = (*(1 for _ in leading), rows, columns)
    row, column = (jax.lax.broadcasted_iota(jnp.uint32, matrix, len(leading) + axis) for axis in (0, 1))
    return row * np.uint32(columns) + column


def _hash(x: jax.Array, word: jax.Array, second_word: jax.Array) -> jax.Array:
    """A uint32 that looks random for each x: two rounds of multiplication and shifts, a word before each.

    The constants are those of a mixer found by search for the least bias (C. Wellons, "hash prospector").
    """
    x = x ^ word
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x21F0AAAD) + second_word
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x735A2D97)
    return x ^ (x >> np.uint32(15))


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
