"""Token insertion: tokens that belong to nothing, for the model to throw out (fairseq's `insert` option).

Where we differ from fairseq, on purpose: its number of random tokens is rounded up, so that a single
insertion is random always and the mask never; here each is random by itself.

Legend of shapes: n columns, e examples, z insertions.
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
    """Insert exactly `rounding`(insert_prob x tokens) new tokens, every pattern of new and old alike.

    Args:
      insert_prob: number of new tokens as a share of the tokens of text.
      mask_random: probability that a new token is a random token of text instead of the mask.
      rounding: "ceil", "floor", "round" (halves up), or "stochastic" (exact in the mean).

    With m new tokens among n old ones each of the C(n + m, m) patterns is as likely as any other. The old
    ones are text and what noise wrote in its place: new tokens stand from before the first of them to after
    the last, never outside a start or an end of text. At a symbol between two of them they stand behind it.
    A text without tokens comes back as it was. Raises CorruptionError for an option outside its bounds.
    """
    rate, random_rate = Rate(insert_prob, "insert_prob"), Rate(mask_random, "mask_random")
    check_rounding(rounding)

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        eligible = symbols.eligible(noised)
        new = rate.counts(noised.partition.sum(eligible), noised.steps, rounding, key)  # [e]
        written = (noised.op == Op.MASK) | (noised.op == Op.RANDOM) | (noised.op == Op.INSERT)
        columns, old = noised.partition.where(eligible | written)
        before, partition = _places(columns, old, new, key)
        random = random_rate.hits(draw(key, "insertion.random", partition), partition, noised.steps)
        ids = symbols.random_ids(draw(key, "insertion.random_ids", partition))
        return insert(noised, before, partition, tf.where(random, ids, symbols.mask_token))

    return corrupt


def _places(
    columns: tf.Tensor, old: RowPartition, new: tf.Tensor, key: tf.Tensor
) -> tuple[tf.Tensor, RowPartition]:
    """Column before which each insertion stands [z], ascending, and the rows of the insertions.

    `columns` [c], in rows `old`, are those between which `new` [e] insertions are put.
    """
    both = RowPartition.from_row_lengths(old.row_lengths + new)
    index, partition = both.where(both.choose(new, draw(key, "insertion.places", both)))
    passed = take(both.offsets, index) - partition.offsets  # old columns to the left
    at_end = tf.cast(passed == partition.broadcast(old.row_lengths), tf.int32)
    neighbour = take(columns, partition.broadcast(old.row_starts) + passed - at_end)
    return neighbour + at_end, partition
