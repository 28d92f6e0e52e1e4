"""Greedy grouping of consecutive items under length limits, without a loop over items.

Chunks are filled with sentences and rows with examples by the same rule: take the next item while it fits.
"""

from collections.abc import Sequence

import tensorflow as tf


def greedy_groups(lengths: Sequence[tf.Tensor], limits: Sequence[int]) -> tf.Tensor:
    """Index of each item's group when groups are filled greedily, in order.

    A group ends when one of its total lengths would exceed its limit; an item longer than a limit is a group
    of its own. Binary search in the running sums gives, for all items at once, the start of the next group if
    a group started there; pointer doubling finds which of these starts are reached from item 0. The cost is
    O(n log n) vector work in log2(n) graph steps.

    Args:
      lengths: for each limit, the lengths of the items, int32 [n].
      limits: largest total length of a group.

    Returns:
      int32 [n], 0-based, non-decreasing.
    """
    num_items = tf.size(lengths[0])
    following = tf.fill([num_items], num_items)
    for side, limit in zip(lengths, limits, strict=True):
        ends = tf.cumsum(side)
        fits_until = tf.searchsorted(ends, ends - side + limit, side="right")
        following = tf.minimum(following, fits_until)
    following = tf.maximum(following, tf.range(1, num_items + 1))
    jump = tf.concat([following, [num_items]], 0)
    starts = tf.one_hot(0, num_items + 1, dtype=tf.int32)

    def double(reach, jump, starts):
        starts = tf.maximum(starts, tf.math.unsorted_segment_max(starts, jump, num_items + 1))
        return reach * 2, tf.gather(jump, jump), starts

    *_, starts = tf.while_loop(lambda reach, *_: reach <= num_items, double, (1, jump, starts))
    return tf.cumsum(starts[:num_items]) - 1
