"""A window of examples laid end to end, and the few things that noise does to each of them at once.

TensorFlow spends about as long on starting an operation as on running it over a few hundred tokens. So
noise works on a window of examples as on one long line, cut into rows, and the cost of starting is shared.
What is left are passes over the line, and these differ: on a CPU a ragged range, a stitch or a sum by
segments takes 1 to 3 ns a column, a running sum, a count or a plain gather 8 to 12, a sort 60. So the
first kind is preferred, here and in the corruptions.

Legend of shapes: n columns, e examples. Everything is int32 unless it says otherwise.
"""

from typing import NamedTuple

import tensorflow as tf


class Rows(NamedTuple):
    """How n columns are dealt out to e examples: in order, side by side, some perhaps empty."""

    of: tf.Tensor  # [n] example of each column, ascending from 0
    starts: tf.Tensor  # [e] its first column
    sizes: tf.Tensor  # [e] how many columns it has

    @property
    def count(self) -> tf.Tensor:
        """Number of examples, e; scalar."""
        return tf.size(self.sizes)

    @property
    def columns(self) -> tf.Tensor:
        """Number of columns, n; scalar."""
        return tf.size(self.of)

    @property
    def place(self) -> tf.Tensor:
        """Place of each column in its row, from 0: [n]."""
        return _ragged_range(tf.zeros_like(self.sizes), self.sizes)

    def spread(self, values: tf.Tensor) -> tf.Tensor:
        """Each column's own of the examples' values [e], of any dtype: [n]."""
        if values.dtype != tf.int32:
            return take(values, self.of)
        first = tf.cast(values, tf.int64) + tf.cast(self.starts, tf.int64)  # the sum may exceed int32
        spread = _ragged_range(first, first + tf.cast(self.sizes, tf.int64))
        return tf.cast(spread - tf.range(tf.cast(self.columns, tf.int64)), tf.int32)

    def sum(self, values: tf.Tensor) -> tf.Tensor:
        """Sum over each row of values or flags [n]: [e]."""
        return tf.math.unsorted_segment_sum(tf.cast(values, tf.int32), self.of, self.count)

    def running_sum(self, values: tf.Tensor) -> tf.Tensor:
        """Sum of values [n] up to each column, within its row and with itself: [n]."""
        total = tf.cumsum(values)
        return total - self.spread(tf.gather(tf.concat([[0], total], 0), self.starts))

    def order(self, keys: tf.Tensor) -> tf.Tensor:
        """Columns of each row by ascending key [n], ties in their order: a permutation inside rows, [n]."""
        return argsort(tf.cast(self.of, tf.int64) * 2**32 + tf.cast(keys, tf.int64))

    def choose(self, counts: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Exactly counts [e] columns of each row, every subset alike, by random int32 draws [n]: bool [n]."""
        return tf.dynamic_stitch([self.order(draws)], [self.place < self.spread(counts)])

    def where(self, flags: tf.Tensor) -> tuple[tf.Tensor, "Rows"]:
        """Columns [k] whose flag (bool [n]) is set, and the rows that they form."""
        return tf.cast(tf.where(flags)[:, 0], tf.int32), rows_of_sizes(self.sum(flags))


def rows_of_sizes(sizes: tf.Tensor) -> Rows:
    """Rows of these sizes [e]."""
    starts = tf.cumsum(sizes, exclusive=True)
    first = starts + tf.range(tf.size(sizes))
    of = _ragged_range(first, first + sizes) - tf.range(tf.reduce_sum(sizes))
    return Rows(of, starts, sizes)


def rows_of_examples(of: tf.Tensor, count: tf.Tensor) -> Rows:
    """Rows from the ascending example of each column [n] and the number of examples."""
    sizes = tf.math.unsorted_segment_sum(tf.ones_like(of), of, count)
    return Rows(of, tf.cumsum(sizes, exclusive=True), sizes)


def blocks(order: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Index [n] that puts blocks of columns of these lengths [b], side by side, into the order [b]."""
    moved = rows_of_sizes(tf.gather(lengths, order))
    begins = tf.gather(tf.cumsum(lengths, exclusive=True), order)
    return tf.range(moved.columns) + moved.spread(begins - moved.starts)


def changes(values: tf.Tensor) -> tf.Tensor:
    """Whether each of the values [n] is another than the one before it, as the first always is: bool [n]."""
    return tf.concat([[True], values[1:] != values[:-1]], 0)[: tf.size(values)]


def distances(starts: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """How far it is from each of the ascending `starts` [k] to the next one, or to `end`: [k]."""
    return tf.concat([starts[1:], [end]], 0) - starts


def put(values: tf.Tensor, index: tf.Tensor, into: tf.Tensor) -> tf.Tensor:
    """`into` [n] with values [k] at the places `index` [k]."""
    return tf.dynamic_stitch([tf.range(tf.size(into)), index], [into, values])


def take(values: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """values[index], along the first axis, for a long index [n]: half the time of tf.gather."""
    return tf.gather_nd(values, index[:, tf.newaxis])


def argsort(keys: tf.Tensor) -> tf.Tensor:
    """Indices that put keys [n] in ascending order, ties in theirs; any integer dtype, no key its least."""
    return tf.math.top_k(-keys, tf.size(keys)).indices


def ascending(values: tf.Tensor) -> tf.Tensor:
    """The values [n] sorted; any integer dtype, no value its least."""
    return -tf.math.top_k(-values, tf.size(values)).values


def occurrences(values: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """How often each of 0 ... size - 1 is among the values: [size]; greater values are passed over."""
    return tf.raw_ops.DenseBincount(input=values, size=size, weights=tf.zeros([0], tf.int32))


def _ragged_range(starts: tf.Tensor, limits: tf.Tensor) -> tf.Tensor:
    """start, start + 1, ... limit - 1 for each pair, end to end."""
    return tf.raw_ops.RaggedRange(starts=starts, limits=limits, deltas=1).rt_dense_values
