"""Fingerprints change with any damage, and with no sharding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.runs.fingerprints import fingerprints


def test_a_flipped_bit_or_another_order_changes_the_fingerprint():
    values = jax.random.normal(jax.random.key(0), (6, 5))
    base = fingerprints({"x": values})["x"]
    assert base == fingerprints({"x": jnp.array(values)})["x"]
    assert base != fingerprints({"x": values[::-1]})["x"]
    bits = np.asarray(values).view(np.uint32)
    for index in (0, 7, 29):
        for bit in (0, 12, 31):
            flipped = bits.copy()
            flipped.flat[index] ^= np.uint32(1 << bit)
            assert base != fingerprints({"x": jnp.asarray(flipped.view(np.float32))})["x"]


def _changes(bits, width, random):
    """Kinds of damage of a float32 matrix, as bits."""
    flipped = bits.copy()
    for index in random.choice(bits.size, size=random.integers(1, 40), replace=False):
        flipped.flat[index] ^= np.uint32(1) << np.uint32(random.integers(0, 32))
    yield flipped
    top = bits.copy()
    top.flat[random.choice(bits.size, size=2 * random.integers(1, 20), replace=False)] ^= np.uint32(1 << 31)
    yield top
    yield bits ^ np.uint32(1 << 31)
    row = bits.copy()
    row[random.integers(len(bits))] ^= np.uint32(1 << 31)
    yield row
    distance, first = 2 ** random.integers(0, 6), random.integers(0, 30)
    swapped = bits.copy()
    swapped[[first, first + distance]] = swapped[[first + distance, first]]
    yield swapped
    one, two = random.choice(bits.size, size=2, replace=False)
    elements = bits.copy()
    elements.flat[[one, two]] = elements.flat[[two, one]]
    yield elements
    zeroed = bits.copy()
    zeroed[:, width // 2 :][: random.integers(1, 60)] = 0
    yield zeroed


@pytest.mark.parametrize("values", ["normal", "from bfloat16", "constant"])
def test_sets_of_changes_change_the_fingerprint(values):
    random, width = np.random.default_rng(0), 1024
    matrix = random.normal(size=(64, width)).astype(np.float32)
    matrix = np.full_like(matrix, 0.02) if values == "constant" else matrix
    if values == "from bfloat16":
        matrix = np.asarray(jnp.asarray(matrix, jnp.bfloat16).astype(jnp.float32))
    bits = matrix.view(np.uint32)
    base = fingerprints({"x": jnp.asarray(matrix)})["x"]
    for _ in range(20):
        for changed in _changes(bits, width, random):
            same = np.array_equal(changed, bits)
            assert (base == fingerprints({"x": jnp.asarray(changed.view(np.float32))})["x"]) == same


def test_swapped_leaves_change_the_fingerprints_and_shardings_do_not():
    one, two = (jax.random.normal(jax.random.key(seed), (8, 16)) for seed in (0, 1))
    base = fingerprints({"a": one, "b": two})
    assert fingerprints({"a": two, "b": one}) == {"a": base["b"], "b": base["a"]}
    assert base["a"] != base["b"]
    mesh = jax.make_mesh((4, 2), ("x", "y"))
    for axes in (("x", "y"), ("y", None), (("x", "y"), None), (None, "x")):
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
        assert fingerprints(jax.device_put({"a": one, "b": two}, sharding)) == base
