"""Row partitions, compared with NumPy. Seeds are fixed. False-alarm rates say how unlikely a failure by
chance is after a change of the noise."""

import collections
import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.row_partition import RowPartition, argsort, bincount, sort
from tests.corruption.helpers import chi_square

SIZES = st.lists(st.integers(0, 6), max_size=8)  # no rows, empty rows, rows of one value
INT32 = st.integers(-(2**31), 2**31 - 1)


def cut(values, sizes):
    """Values [N] as one list per row."""
    return [part.tolist() for part in np.split(np.asarray(values), np.cumsum(sizes)[:-1])] if sizes else []


def partition_of(sizes):
    return RowPartition.from_row_lengths(tf.constant(sizes, tf.int32))


@settings(max_examples=60)
@given(sizes=SIZES)
def test_partitions_from_row_lengths_and_from_value_rowids_agree(sizes):
    partition = partition_of(sizes)
    of = np.repeat(np.arange(len(sizes)), sizes)
    np.testing.assert_array_equal(partition.value_rowids, of)
    np.testing.assert_array_equal(partition.row_starts, np.cumsum([0, *sizes])[: len(sizes)])
    np.testing.assert_array_equal(partition.row_lengths, sizes)
    assert (int(partition.nrows), int(partition.nvals)) == (len(sizes), sum(sizes))
    np.testing.assert_array_equal(partition.offsets, [offset for size in sizes for offset in range(size)])
    other = RowPartition.from_value_rowids(tf.constant(of, tf.int32), tf.constant(len(sizes)))
    for field, expected in zip(other, partition, strict=True):
        assert field.dtype == expected.dtype == tf.int32
        np.testing.assert_array_equal(field, expected)


@settings(max_examples=60)
@given(sizes=SIZES, data=st.data())
def test_operations_on_rows_agree_with_numpy(sizes, data):
    partition, n = partition_of(sizes), sum(sizes)
    values = data.draw(st.lists(st.integers(-9, 9), min_size=n, max_size=n))
    tensor = tf.constant(values, tf.int32)
    parts = cut(values, sizes)
    assert partition.sum(tensor).numpy().tolist() == [sum(part) for part in parts]
    assert cut(partition.cumsum(tensor), sizes) == [list(itertools.accumulate(part)) for part in parts]
    starts = np.cumsum([0, *sizes])
    order = [[starts[i] + k for k in np.argsort(part, kind="stable")] for i, part in enumerate(parts)]
    assert cut(partition.argsort(tensor), sizes) == order
    np.testing.assert_array_equal(partition.broadcast(tf.range(len(sizes))), partition.value_rowids)
    counts = [data.draw(st.integers(0, size)) for size in sizes]
    chosen = partition.choose(tf.constant(counts, tf.int32), tensor)
    assert partition.sum(tf.cast(chosen, tf.int32)).numpy().tolist() == counts
    # They have the smallest draws of their row.
    expected = [sorted(own[:k]) for own, k in zip(order, counts, strict=True)]
    assert np.flatnonzero(chosen.numpy()).tolist() == [index for own in expected for index in own]
    index, kept = partition.where(tensor > 0)
    assert index.numpy().tolist() == np.flatnonzero(np.array(values) > 0).tolist()
    assert kept.row_lengths.numpy().tolist() == [sum(value > 0 for value in part) for part in parts]


@settings(max_examples=30)
@given(keys=st.lists(INT32.filter(lambda key: key > -(2**31)), max_size=20))
def test_sorting_is_stable_and_handles_negative_keys(keys):
    for dtype in (tf.int32, tf.int64):
        tensor = tf.constant(keys, dtype)
        assert argsort(tensor).numpy().tolist() == sorted(range(len(keys)), key=keys.__getitem__)
        assert sort(tensor).numpy().tolist() == sorted(keys)


@settings(max_examples=30)
@given(sizes=SIZES, draws=st.lists(INT32, min_size=48, max_size=48))
def test_argsort_of_any_int32_stays_within_rows(sizes, draws):
    """Including the least and the greatest int32."""
    draws = draws[: sum(sizes)]
    order = partition_of(sizes).argsort(tf.constant(draws, tf.int32)).numpy()
    of = np.repeat(np.arange(len(sizes)), sizes)
    np.testing.assert_array_equal(order, np.lexsort((draws, of)))


def test_choices_are_uniform_over_subsets():
    """2 of 4 values, 6 subsets, with the library's own draws: p > 1e-4."""
    partition = partition_of([4] * 6000)
    chosen = partition.choose(
        tf.fill([6000], 2), draw(tf.range(6000, dtype=tf.int64), "test", partition)
    ).numpy()
    subsets = collections.Counter(map(bytes, chosen.reshape(6000, 4)))
    assert len(subsets) == 6
    assert chi_square(list(subsets.values()), 1 / 6) > 1e-4


@pytest.mark.parametrize(("values", "size"), [([], 3), ([0, 2, 2, 5, 3], 3), ([1], 0)])
def test_bincount_ignores_larger_values(values, size):
    counted = bincount(tf.constant(values, tf.int32), tf.constant(size)).numpy().tolist()
    assert counted == [values.count(value) for value in range(size)]
