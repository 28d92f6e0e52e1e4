"""Random bits: uniform, uncorrelated, in independent streams. Seeds are fixed. False-alarm rates say how
unlikely a failure by chance is after a change of the noise."""

import math

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption.keys import content_keys, draw, stream
from denoise_jax.corruption.row_partition import RowPartition
from tests.corruption.helpers import chi_square

SIZE = 2**16
SMALL = tf.range(SIZE, dtype=tf.int64)  # keys that differ only in their lowest bits
FAR = SMALL * 2**40 - 2**55  # in their middle bits, with both signs
ONE = tf.constant([7], tf.int64)


def row(key=ONE, name="a", size=SIZE):
    """Draws along one row of `size` values."""
    return draw(key, name, RowPartition.from_row_lengths(tf.constant([size]))).numpy()


SAMPLES = {
    "consecutive keys": lambda: draw(SMALL, "a").numpy(),
    "keys far apart": lambda: draw(FAR, "a").numpy(),
    "consecutive offsets": row,
    "first offsets": lambda: draw(
        SMALL, "a", RowPartition.from_row_lengths(tf.ones([SIZE], tf.int32))
    ).numpy(),
    "consecutive keys of a stream": lambda: draw(stream(SMALL, "member 0"), "a").numpy(),
}


def bits(draws: np.ndarray) -> np.ndarray:
    """The 32 bits of each int32 draw: [draws, 32]."""
    return draws.view(np.uint32)[:, np.newaxis] >> np.arange(32, dtype=np.uint32) & 1


@pytest.mark.parametrize("name", SAMPLES)
def test_each_of_the_32_bits_is_a_fair_coin(name):
    """Largest |z| of 32 means of 2^16 bits below 4.7 (1 false alarm in 12,000 for each sample)."""
    z = (bits(SAMPLES[name]()).mean(0) - 0.5) / (0.5 / math.sqrt(SIZE))
    assert np.abs(z).max() < 4.7


@pytest.mark.parametrize("name", SAMPLES)
def test_draws_are_uniform_and_neighbours_uncorrelated(name):
    """Top bytes: p > 1e-4. Serial correlation at lags 1 to 4: |z| below 4.5 (1 in 37,000)."""
    draws = SAMPLES[name]()
    assert chi_square(np.bincount((draws.view(np.uint32) >> 24).astype(int), minlength=256), 1 / 256) > 1e-4
    for lag in range(1, 5):
        assert abs(np.corrcoef(draws[lag:], draws[:-lag])[0, 1]) < 4.5 / math.sqrt(SIZE)


def test_streams_examples_and_their_bits_are_uncorrelated():
    """|z| below 4.5 for each correlation of draws, 5.5 for each of 1024 pairs of bits (1 in 26,000)."""
    one = row()
    others = [row(name="b"), row(key=ONE + 1), row(key=stream(ONE, "a")), draw(SMALL, "a").numpy()]
    signs = [2.0 * bits(values) - 1 for values in (one, *others)]
    for other, sign in zip(others, signs[1:], strict=True):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4.5 / math.sqrt(SIZE)
        assert np.abs(signs[0].T @ sign).max() / math.sqrt(SIZE) < 5.5


def test_draws_depend_only_on_the_key_and_the_offset():
    """Not on the position in the batch; and the draws of a longer row start with those of a shorter one."""
    sizes, keys = [3, 0, 5, 1], tf.constant([11, 12, 13, -(2**62)], tf.int64)
    batch = np.split(
        draw(keys, "a", RowPartition.from_row_lengths(tf.constant(sizes))).numpy(), np.cumsum(sizes)[:-1]
    )
    for key, size, own in zip(keys, sizes, batch, strict=True):
        np.testing.assert_array_equal(row(key[tf.newaxis], size=size), own)
        np.testing.assert_array_equal(row(key[tf.newaxis], size=size + 4)[:size], own)


def test_streams_differ_and_never_change():
    a, b = (stream(ONE, name).numpy().tolist() for name in ("a", "b"))
    assert a != b
    assert stream(stream(ONE, "a"), "b")[0] != stream(stream(ONE, "b"), "a")[0]
    # Recorded values: a change here would silently change the noise of every run.
    assert a == [1960896883935735663]
    assert row(size=3).tolist() == [1763441049, -1778433973, -494924959]
    assert draw(ONE, "a").numpy().tolist() == [-1744454791]


def test_streams_of_all_keys_differ():
    """`stream` is a bijection: no two keys share a stream."""
    assert len(np.unique(stream(SMALL, "a"))) == SIZE


def test_content_keys_distinguish_texts():
    """Order, length and every id matter, the position in the batch does not; empty texts have a key too."""
    texts = [[10, 11], [11, 10], [10], [], [10, 11, 0], [10, 12], [999_999, 0], [0], [0, 0]]
    partition = RowPartition.from_row_lengths(tf.constant([len(text) for text in texts]))
    keys = content_keys(tf.constant([token for text in texts for token in text], tf.int32), partition).numpy()
    assert keys.dtype == np.int64
    assert len(set(keys.tolist())) == len(texts)
    for text, key in zip(texts, keys, strict=True):
        alone = content_keys(
            tf.constant(text, tf.int32), RowPartition.from_row_lengths(tf.constant([len(text)]))
        )
        assert alone.numpy().tolist() == [key]
    assert keys[0] == -6803350747128049306
