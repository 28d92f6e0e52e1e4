"""Token insertion: new tokens, not in the target, that the model must drop (fairseq's `insert`).

fairseq rounds up the number of random tokens among the insertions, so that a single insertion is never a
mask; here each insertion is random independently.

Shapes: E examples, C tokens between which tokens may be inserted, Z insertions.
"""

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.rates import Rate, Schedule, check_rounding
from denoise_jax.corruption.record import Corruption, Noised, Op, insert
from denoise_jax.corruption.row_partition import RowPartition, take
from denoise_jax.corruption.symbols import Symbols


def token_insertion(
    symbols: Symbols,
    *,
    insert_prob: float | Schedule = 0.1,
    mask_random: float | Schedule = 0.1,
    rounding: str = "ceil",
) -> Corruption:
    """Inserts exactly `rounding`(insert_prob x tokens) tokens at random positions.

    Args:
      insert_prob: number of insertions as a share of the tokens of text.
      mask_random: probability that an insertion is a random token of text instead of the mask.
      rounding: "ceil", "floor", "round" (half up) or "stochastic" (exact in the mean).

    All arrangements of the inserted tokens among the existing ones are equally likely. Tokens are inserted
    between text tokens and those that noise wrote in their place, before the first and after the last of
    them, but never outside the start or end of text. A special token between two text tokens stays next to
    the first one: insertions go after it. A text without tokens is returned unchanged.

    Raises CorruptionError for an option out of bounds.
    """
    rate, random_rate = Rate(insert_prob, "insert_prob"), Rate(mask_random, "mask_random")
    check_rounding(rounding)

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        eligible = symbols.eligible(noised)
        count = rate.counts(noised.partition.sum(eligible), noised.steps, rounding, key)  # [E]
        written = (noised.op == Op.MASK) | (noised.op == Op.RANDOM) | (noised.op == Op.INSERT)
        existing, partition = noised.partition.where(eligible | written)
        before, new = _positions(existing, partition, count, key)
        random = random_rate.hits(draw(key, "insertion.random", new), new, noised.steps)
        ids = symbols.random_ids(draw(key, "insertion.random_ids", new))
        return insert(noised, before, new, tf.where(random, ids, symbols.mask_token))

    return corrupt


def _positions(
    existing: tf.Tensor, partition: RowPartition, count: tf.Tensor, key: tf.Tensor
) -> tuple[tf.Tensor, RowPartition]:
    """The position that each insertion goes before, [Z] ascending, and the partition of the insertions.

    `existing` [C], divided by `partition`, are the positions among which count [E] tokens are inserted.
    """
    both = RowPartition.from_row_lengths(partition.row_lengths + count)
    index, new = both.where(both.choose(count, draw(key, "insertion.places", both)))
    existing_before = take(both.offsets, index) - new.offsets
    at_end = tf.cast(existing_before == new.broadcast(partition.row_lengths), tf.int32)
    neighbour = take(existing, new.broadcast(partition.row_starts) + existing_before - at_end)
    return neighbour + at_end, new
