"""A batch of ragged examples, flattened into one vector of values and a partition of that vector into rows.

TensorFlow takes about as long to launch an operation as to run it over a few hundred tokens, so noise is
computed for a whole batch of examples at once. The remaining cost is that of passes over the flat vector.
On a CPU a ragged range, a stitch or a segment sum takes 1 to 3 ns per value; a cumulative sum, a bincount or
a plain gather 8 to 12; a sort 60. Code here and in the corruptions therefore prefers the first group.

Shapes: N values of the whole batch, E rows (one per example), K selected values. All tensors are int32 unless
stated otherwise.
"""

from typing import NamedTuple

import tensorflow as tf


class RowPartition(NamedTuple):
    """How N values are divided into E consecutive rows, which may be empty; cf. tf.experimental.RowPartition.

    The flat tensors are plain fields, so that building one costs no validation and no hidden conversions.
    """

    value_rowids: tf.Tensor  # [N] row of each value, ascending from 0
    row_starts: tf.Tensor  # [E] index of the row's first value
    row_lengths: tf.Tensor  # [E]

    @classmethod
    def from_row_lengths(cls, row_lengths: tf.Tensor) -> "RowPartition":
        """Rows of the given lengths [E]."""
        row_starts = tf.cumsum(row_lengths, exclusive=True)
        first = row_starts + tf.range(tf.size(row_lengths))
        value_rowids = _ragged_range(first, first + row_lengths) - tf.range(tf.reduce_sum(row_lengths))
        return cls(value_rowids, row_starts, row_lengths)

    @classmethod
    def from_value_rowids(cls, value_rowids: tf.Tensor, nrows: tf.Tensor) -> "RowPartition":
        """Rows from the ascending row of each value [N] and the number of rows, a scalar."""
        row_lengths = tf.math.unsorted_segment_sum(tf.ones_like(value_rowids), value_rowids, nrows)
        return cls(value_rowids, tf.cumsum(row_lengths, exclusive=True), row_lengths)

    @property
    def nrows(self) -> tf.Tensor:
        """Number of rows, E; scalar."""
        return tf.size(self.row_lengths)

    @property
    def nvals(self) -> tf.Tensor:
        """Number of values, N; scalar."""
        return tf.size(self.value_rowids)

    @property
    def row_limits(self) -> tf.Tensor:
        """Index past the row's last value: [E]."""
        return self.row_starts + self.row_lengths

    @property
    def offsets(self) -> tf.Tensor:
        """Offset of each value within its row, from 0: [N]."""
        return _ragged_range(tf.zeros_like(self.row_lengths), self.row_lengths)

    def broadcast(self, values: tf.Tensor) -> tf.Tensor:
        """Repeats each row's entry of `values` [E], of any dtype, for every value of the row: [N]."""
        if values.dtype != tf.int32:
            return take(values, self.value_rowids)
        first = tf.cast(values, tf.int64) + tf.cast(self.row_starts, tf.int64)  # the sum may exceed int32
        counting = _ragged_range(first, first + tf.cast(self.row_lengths, tf.int64))
        return tf.cast(counting - tf.range(tf.cast(self.nvals, tf.int64)), tf.int32)

    def sum(self, values: tf.Tensor) -> tf.Tensor:
        """Sum of `values` [N], integers or flags, over each row: [E]."""
        return tf.math.unsorted_segment_sum(tf.cast(values, tf.int32), self.value_rowids, self.nrows)

    def cumsum(self, values: tf.Tensor) -> tf.Tensor:
        """Inclusive cumulative sum of `values` [N] within each row: [N]."""
        total = tf.cumsum(values)
        return total - self.broadcast(tf.gather(tf.concat([[0], total], 0), self.row_starts))

    def argsort(self, keys: tf.Tensor) -> tf.Tensor:
        """Indices [N] that stably sort each row by `keys` [N]; every index stays within its row."""
        return argsort(tf.cast(self.value_rowids, tf.int64) * 2**32 + tf.cast(keys, tf.int64))

    def choose(self, counts: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Flags exactly counts [E] values of each row, a uniformly random subset: bool [N].

        `draws` [N] are random int32.
        """
        return tf.dynamic_stitch([self.argsort(draws)], [self.offsets < self.broadcast(counts)])

    def where(self, flags: tf.Tensor) -> tuple[tf.Tensor, "RowPartition"]:
        """Indices [K] of the values whose flag (bool [N]) is set, and the partition of these K values."""
        return tf.cast(tf.where(flags)[:, 0], tf.int32), RowPartition.from_row_lengths(self.sum(flags))


def block_permutation(order: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Indices [N] that put B consecutive blocks of values, of these lengths [B], into the given order [B]."""
    moved = RowPartition.from_row_lengths(tf.gather(lengths, order))
    block_starts = tf.gather(tf.cumsum(lengths, exclusive=True), order)
    return tf.range(moved.nvals) + moved.broadcast(block_starts - moved.row_starts)


def changes(values: tf.Tensor) -> tf.Tensor:
    """Whether each of `values` [N] differs from the previous one; True for the first: bool [N]."""
    return tf.concat([[True], values[1:] != values[:-1]], 0)[: tf.size(values)]


def distances(starts: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Differences between consecutive entries of `starts` [K], ascending, and from the last to `end`: [K]."""
    return tf.concat([starts[1:], [end]], 0) - starts


def put(values: tf.Tensor, index: tf.Tensor, into: tf.Tensor) -> tf.Tensor:
    """A copy of `into` [N] with into[index] = values, both [K]."""
    return tf.dynamic_stitch([tf.range(tf.size(into)), index], [into, values])


def take(values: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """values[index] along the first axis. For a long index [N] it takes half the time of tf.gather."""
    return tf.gather_nd(values, index[:, tf.newaxis])


def argsort(keys: tf.Tensor) -> tf.Tensor:
    """Indices that stably sort integer keys [N]; the least value of their dtype is not allowed."""
    return tf.math.top_k(-keys, tf.size(keys)).indices


def sort(values: tf.Tensor) -> tf.Tensor:
    """Integer values [N] in ascending order; the least value of their dtype is not allowed."""
    return -tf.math.top_k(-values, tf.size(values)).values


def bincount(values: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """How often each of 0 ... size - 1 occurs in `values`: [size]; larger values are ignored."""
    return tf.raw_ops.DenseBincount(input=values, size=size, weights=tf.zeros([0], tf.int32))


def _ragged_range(starts: tf.Tensor, limits: tf.Tensor) -> tf.Tensor:
    """The ranges start, start + 1, ... limit - 1 of each pair, concatenated."""
    return tf.raw_ops.RaggedRange(starts=starts, limits=limits, deltas=1).rt_dense_values
