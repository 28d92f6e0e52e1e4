"""Fingerprints of arrays, by which damage to a checkpoint is noticed: Orbax does not notice changed bytes."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from denoise_jax.parallel.sharding import leaf_name


def fingerprints(state: Mapping) -> dict[str, int]:
    """32 bits per leaf, the same under any sharding; a flipped bit or swapped rows change them."""
    return start_fingerprints(state)()


def start_fingerprints(state: Mapping) -> Callable[[], dict[str, int]]:
    """Starts computing the fingerprints on the devices; the function returned waits for them."""
    leaves = jax.tree.leaves_with_path(state)
    names = [leaf_name(path) for path, _ in leaves]
    values = _fingerprint_all([leaf for _, leaf in leaves])
    return lambda: {name: int(value) for name, value in zip(names, jax.device_get(values), strict=True)}


@jax.jit
def _fingerprint_all(leaves):
    return [_fingerprint(leaf) for leaf in leaves]


def _fingerprint(leaf: jax.Array) -> jax.Array:
    """Sum of (bits of element i) * (2 i + 1) over the flattened leaf, modulo 2^32."""
    unsigned = {2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)
    position = jnp.zeros(bits.shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(bits.ndim)):
        position += jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= bits.shape[axis]
    return jnp.sum(bits * (2 * position + 1), dtype=jnp.uint32)
