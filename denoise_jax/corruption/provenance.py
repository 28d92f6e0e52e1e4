"""The kind of each target token, derived from a record after any chain of corruptions.

Shapes, each of the whole batch: N corrupted tokens, M target tokens, T output tokens, V visible tokens.
"""

import tensorflow as tf

from denoise_jax.corruption.record import Noised, Op, TargetNoise
from denoise_jax.corruption.row_partition import RowPartition, distances, put, take
from denoise_jax.target_kinds import TargetKind


def target_kinds(noised: Noised) -> tf.Tensor:
    """TargetKind of each target token: int32 [M].

    MASKED, REPLACED: covered by a mask or sentinel, or by a random token. The covering token is taken to be
      the last one, in the order of sources, whose source is not after the target token. That is exact unless
      text was moved before it was hidden: a span records where it begins and how long it is, but not which
      tokens it hides, so one that a permutation brought under a span may be attributed to another span. The
      same happens if the covering token was cut off (`record.truncate`).
    DELETED: as recorded.
    MOVED: visible, but its nearest visible left neighbour differs between the corrupted text and the target.
      If a sentence moves, that is its first visible token, and the first one after the gap that it left; the
      other tokens moved along with their neighbours.
    BESIDE_INSERTION: visible, not moved, and adjacent to a token that corresponds to nothing in the target
      (an insertion, or the marker of a rotation or a mode).
    IN_PLACE: all other tokens.
    """
    every = tf.range(noised.target_partition.nvals)
    in_order = tf.reduce_all(noised.source[1:] >= noised.source[:-1])
    moved = tf.cond(in_order, lambda: tf.zeros([0], tf.int32), lambda: _moved(noised))
    beside = _beside_insertions(noised)
    return tf.dynamic_stitch(  # for an index that occurs more than once the last value wins
        [every, beside, moved],
        [
            _kinds_in_place(noised),
            tf.fill(tf.shape(beside), int(TargetKind.BESIDE_INSERTION)),
            tf.fill(tf.shape(moved), int(TargetKind.MOVED)),
        ],
    )


def output_kinds(noised: Noised) -> tf.Tensor:
    """TargetKind of each output token: int32 [T].

    It is the kind of the target token at the output's source. An output that is not this target token is a
    special token that the corrupted text shows as well, such as a sentinel of T5, and is IN_PLACE.
    """
    kinds = target_kinds(noised)
    if noised.outputs is noised.targets:
        return kinds
    # The source of a special token at the end of a text may be one past the last target token.
    positions = tf.minimum(noised.output_source, noised.target_partition.nvals) - 1
    is_target = (take(noised.targets, positions) == noised.outputs) & (positions == noised.output_source - 1)
    return tf.where(is_target, take(kinds, positions), int(TargetKind.IN_PLACE))


def _kinds_in_place(noised: Noised) -> tf.Tensor:
    """The kinds [M] without regard to moves and insertions."""
    replaced = noised.op == Op.RANDOM
    covered = tf.cond(
        tf.reduce_any(replaced),
        lambda: _covered_kinds(noised, replaced),
        lambda: tf.fill(tf.shape(noised.targets), int(TargetKind.MASKED)),
    )
    # TargetNoise.VISIBLE and DELETED have the values of TargetKind.IN_PLACE and DELETED.
    return tf.where(noised.target_noise == TargetNoise.COVERED, covered, noised.target_noise)


def _covered_kinds(noised: Noised, replaced: tf.Tensor) -> tf.Tensor:
    """REPLACED or MASKED for each target [M], according to the last covering token at or before it."""
    covering = tf.cast(tf.where((noised.op != Op.KEEP) & (noised.span > 1))[:, 0], tf.int32)
    kinds = tf.where(take(replaced, covering), int(TargetKind.REPLACED), int(TargetKind.MASKED))
    row_starts = tf.boolean_mask(noised.target_partition.row_starts, noised.target_partition.row_lengths > 0)
    kind_from_here = tf.dynamic_stitch(  # for an index that occurs more than once the last value wins
        [tf.range(noised.target_partition.nvals), row_starts, take(noised.source, covering) - 1],
        [tf.zeros_like(noised.targets), tf.fill(tf.shape(row_starts), int(TargetKind.MASKED)), kinds],
    )
    changed = tf.cast(tf.where(kind_from_here > 0)[:, 0], tf.int32)
    lengths = distances(changed, noised.target_partition.nvals)
    return RowPartition.from_row_lengths(lengths).broadcast(take(kind_from_here, changed))


def _moved(noised: Noised) -> tf.Tensor:
    """Indices of the MOVED target tokens, in any order."""
    kept, partition = noised.partition.where(noised.op == Op.KEEP)
    source = take(noised.source, kept) - 1  # [V]
    visible = tf.cast(tf.where(noised.target_noise == TargetNoise.VISIBLE)[:, 0], tf.int32)
    ranks = put(tf.range(tf.size(visible)), visible, tf.zeros_like(noised.targets))  # among visible tokens
    rank = take(ranks, source)
    # One more than that of the previous visible token; for the first of an example, its own index, since the
    # visible tokens of earlier examples come before it.
    first = tf.boolean_mask(partition.row_starts, partition.row_lengths > 0)
    after_previous = tf.concat([[0], rank[:-1] + 1], 0)[: tf.size(rank)]
    expected = put(first, first, after_previous)
    return tf.boolean_mask(source, rank != expected)


def _beside_insertions(noised: Noised) -> tf.Tensor:
    """Indices of the visible target tokens adjacent to an inserted token; an index may occur twice."""
    inserted = tf.cast(tf.where(noised.span == 1)[:, 0], tf.int32)
    beside = tf.concat([inserted - 1, inserted + 1], 0)
    inside = (beside >= 0) & (beside < noised.partition.nvals)
    pairs = tf.boolean_mask(tf.stack([beside, tf.tile(inserted, [2])], 1), inside)
    rowids = noised.partition.value_rowids
    same_example = take(rowids, pairs[:, 0]) == take(rowids, pairs[:, 1])
    beside = tf.boolean_mask(pairs[:, 0], same_example & (take(noised.op, pairs[:, 0]) == Op.KEEP))
    return take(noised.source, beside) - 1
