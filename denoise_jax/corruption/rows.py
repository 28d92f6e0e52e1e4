"""A window of examples laid end to end, and the few things that noise does to each of them at once.

TensorFlow spends about as long on starting an operation as on running it over a few hundred tokens. So
noise works on a window of examples as on one long line, cut into rows, and the cost of starting is shared.

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
        return tf.range(self.columns) - self.spread(self.starts)

    def spread(self, values: tf.Tensor) -> tf.Tensor:
        """Each column's own of the examples' values [e]: [n], any dtype."""
        return tf.gather(values, self.of)

    def sum(self, values: tf.Tensor) -> tf.Tensor:
        """Sum over each row of values [n]: [e]."""
        return tf.raw_ops.DenseBincount(input=self.of, size=self.count, weights=values)

    def running_sum(self, values: tf.Tensor) -> tf.Tensor:
        """Sum of values [n] up to each column, within its row and with itself: [n]."""
        total = tf.cumsum(values)
        return total - self.spread(tf.gather(tf.concat([[0], total], 0), self.starts))

    def order(self, keys: tf.Tensor) -> tf.Tensor:
        """Columns of each row by ascending key [n], ties in their order: a permutation inside rows, [n]."""
        return argsort(tf.cast(self.of, tf.int64) * 2**32 + tf.cast(keys, tf.int64))

    def choose(self, counts: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Exactly counts [e] columns of each row, every subset alike, by random int32 draws [n]: bool [n]."""
        chosen = self.place < self.spread(counts)
        return tf.scatter_nd(self.order(draws)[:, tf.newaxis], chosen, tf.shape(chosen))

    def where(self, flags: tf.Tensor) -> tuple[tf.Tensor, "Rows"]:
        """Columns [k] whose flag (bool [n]) is set, and the rows that they form."""
        index = tf.cast(tf.where(flags)[:, 0], tf.int32)
        return index, rows_of_examples(tf.gather(self.of, index), self.count)


def rows_of_sizes(sizes: tf.Tensor) -> Rows:
    """Rows of these sizes [e]."""
    ends = tf.cumsum(sizes)
    columns = tf.reduce_sum(sizes)
    # Each column counts the rows that end at it or before; ends beyond the last column are passed over.
    of = tf.cumsum(tf.raw_ops.DenseBincount(input=ends, size=columns, weights=tf.zeros([0], tf.int32)))
    return Rows(of, ends - sizes, sizes)


def rows_of_examples(of: tf.Tensor, count: tf.Tensor) -> Rows:
    """Rows from the ascending example of each column [n] and the number of examples."""
    sizes = tf.raw_ops.DenseBincount(input=of, size=count, weights=tf.zeros([0], tf.int32))
    return Rows(of, tf.cumsum(sizes, exclusive=True), sizes)


def argsort(keys: tf.Tensor) -> tf.Tensor:
    """Indices that put keys [n] in ascending order, ties in theirs; any integer dtype, no key its least."""
    return tf.math.top_k(-keys, tf.size(keys)).indices


def ascending(values: tf.Tensor) -> tf.Tensor:
    """The values [n] sorted; any integer dtype, no value its least."""
    return -tf.math.top_k(-values, tf.size(values)).values


def occurrences(values: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """How often each of 0 ... size - 1 is among the values: [size]; greater values are passed over."""
    return tf.raw_ops.DenseBincount(input=values, size=size, weights=tf.zeros([0], tf.int32))
