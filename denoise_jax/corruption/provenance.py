"""The kind of each target token, read off a record after any chain of corruptions.

Legend of shapes: n corrupted tokens, m target tokens, t tokens that the decoder writes, v visible tokens,
each of the whole window.
"""

import tensorflow as tf

from denoise_jax.corruption.record import Noised, Op, TargetNoise
from denoise_jax.corruption.row_partition import RowPartition, distances, put, take
from denoise_jax.target_kinds import TargetKind


def target_kinds(noised: Noised) -> tf.Tensor:
    """TargetKind of each target token: int32 [m].

    MASKED, REPLACED: hidden. By what stands for the token: the last column, in the order of sources, which
      stands for anything and whose source is not behind the token. That is exact unless text was moved
      before it was hidden: of a span the record then says where it begins and how long it is, and not what
      else it hides, so a token that a moved sentence brought under a span may be told by another column.
      So is a token whose own column was cut off (`record.truncate`).
    DELETED: the record says so.
    MOVED: visible, and its nearest visible neighbour to the left is not the same in the corrupted text and
      in the target. Of a sentence that moves, the first visible token is MOVED, and the first behind the
      place that it left; the others go with their neighbours.
    BESIDE_INSERTION: visible, not moved, and directly beside a column that stands for nothing (an insertion,
      or a symbol such as that of a rotation or a mode).
    IN_PLACE: all else.
    """
    every = tf.range(noised.target_partition.nvals)
    in_order = tf.reduce_all(noised.source[1:] >= noised.source[:-1])
    moved = tf.cond(in_order, lambda: tf.zeros([0], tf.int32), lambda: _moved(noised))
    beside = _beside_insertions(noised)
    return tf.dynamic_stitch(  # of several kinds for a place the last one stands
        [every, beside, moved],
        [
            _still(noised),
            tf.fill(tf.shape(beside), int(TargetKind.BESIDE_INSERTION)),
            tf.fill(tf.shape(moved), int(TargetKind.MOVED)),
        ],
    )


def output_kinds(noised: Noised) -> tf.Tensor:
    """TargetKind of each token that the decoder writes: int32 [t].

    It is that of the target token at its source. A token which is not that target token is a symbol that
    the corrupted text shows as well (T5's sentinels), and IN_PLACE.
    """
    kinds = target_kinds(noised)
    if noised.outputs is noised.targets:
        return kinds
    # A symbol at the end of a text may have the source past its last token.
    places = tf.minimum(noised.output_source, noised.target_partition.nvals) - 1
    same = (take(noised.targets, places) == noised.outputs) & (places == noised.output_source - 1)
    return tf.where(same, take(kinds, places), int(TargetKind.IN_PLACE))


def _still(noised: Noised) -> tf.Tensor:
    """Kinds [m] as if nothing had been moved or inserted."""
    replaced = noised.op == Op.RANDOM
    hidden = tf.cond(
        tf.reduce_any(replaced),
        lambda: _hidden_kinds(noised, replaced),
        lambda: tf.fill(tf.shape(noised.targets), int(TargetKind.MASKED)),
    )
    # TargetNoise.VISIBLE and DELETED have the numbers of TargetKind.IN_PLACE and DELETED.
    return tf.where(noised.target_noise == TargetNoise.COVERED, hidden, noised.target_noise)


def _hidden_kinds(noised: Noised, replaced: tf.Tensor) -> tf.Tensor:
    """REPLACED or MASKED for each target [m], by the last column before it that stands for anything."""
    columns = tf.cast(tf.where((noised.op != Op.KEEP) & (noised.span > 1))[:, 0], tf.int32)
    own = tf.where(take(replaced, columns), int(TargetKind.REPLACED), int(TargetKind.MASKED))
    first = tf.boolean_mask(noised.target_partition.row_starts, noised.target_partition.row_lengths > 0)
    begins = tf.dynamic_stitch(  # of several values for a place the last one stands
        [tf.range(noised.target_partition.nvals), first, take(noised.source, columns) - 1],
        [tf.zeros_like(noised.targets), tf.fill(tf.shape(first), int(TargetKind.MASKED)), own],
    )
    places = tf.cast(tf.where(begins > 0)[:, 0], tf.int32)
    lengths = distances(places, noised.target_partition.nvals)
    return RowPartition.from_row_lengths(lengths).broadcast(take(begins, places))


def _moved(noised: Noised) -> tf.Tensor:
    """Indices of the MOVED target tokens, in any order."""
    kept, partition = noised.partition.where(noised.op == Op.KEEP)  # [v]
    source = take(noised.source, kept) - 1
    visible = tf.cast(tf.where(noised.target_noise == TargetNoise.VISIBLE)[:, 0], tf.int32)
    ranks = put(tf.range(tf.size(visible)), visible, tf.zeros_like(noised.targets))  # among the visible ones
    rank = take(ranks, source)
    # Behind the token before it, or, first of its example, where the visible ones of the examples before end.
    first = tf.boolean_mask(partition.row_starts, partition.row_lengths > 0)
    behind = tf.concat([[0], rank[:-1] + 1], 0)[: tf.size(rank)]
    expected = put(first, first, behind)
    return tf.boolean_mask(source, rank != expected)


def _beside_insertions(noised: Noised) -> tf.Tensor:
    """Indices of the visible target tokens beside a column that stands for nothing; some perhaps twice."""
    inserted = tf.cast(tf.where(noised.span == 1)[:, 0], tf.int32)
    beside = tf.concat([inserted - 1, inserted + 1], 0)
    inside = (beside >= 0) & (beside < noised.partition.nvals)
    pairs = tf.boolean_mask(tf.stack([beside, tf.tile(inserted, [2])], 1), inside)
    same = take(noised.partition.value_rowids, pairs[:, 0]) == take(
        noised.partition.value_rowids, pairs[:, 1]
    )
    beside = tf.boolean_mask(pairs[:, 0], same & (take(noised.op, pairs[:, 0]) == Op.KEEP))
    return take(noised.source, beside) - 1
