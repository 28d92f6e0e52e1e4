"""Fingerprints of arrays, by which damage to a checkpoint is noticed: Orbax does not notice changed bytes."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from denoise_jax.parallel.sharding import leaf_name

_GOLDEN = 0x9E3779B9  # odd, so that no two positions of a leaf move the same bits to the same place


def fingerprints(state: Mapping) -> dict[str, int]:
    """32 bits per leaf, the same under any sharding; any change of bits or order changes them.

    "Any" is all but one in 2^32 changes, as for a random function of the whole content.
    """
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
    """The sum over the flattened leaf of mixed (bits of element i + i * golden), modulo 2^32.

    The sum does not depend on the order in which shards are added. Bits are mixed before they are added:
    a sum of the bits themselves, with a weight per position, would miss changes that cancel each other.
    """
    unsigned = {2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)
    stride = _GOLDEN
    for axis in reversed(range(bits.ndim)):
        bits += jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= bits.shape[axis]
    return jnp.sum(_mix(bits), dtype=jnp.uint32)


def _mix(bits: jax.Array) -> jax.Array:
    """The finalizer of MurmurHash3: each bit of a word changes each bit of the result half of the time."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)
