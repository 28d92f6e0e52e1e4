"""Masked fragment: one contiguous fragment is masked, and the decoder writes it (MASS, Song et al. 2019).

The released code masks one token more than the requested share and starts one position too far to the right,
so that the fragment's first token stays visible; it measures the fragment on the text with its start symbol,
up to one token too long; and its uniform starts count the first position twice and leave out the last. Here
the fragment, its length and the distribution of its start are as documented. Unlike MASS, the decoder is not
given the positions of the fragment in the source.

Shapes: E examples, N corrupted tokens, F tokens of fragments.
"""

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import CorruptionError, check_number
from denoise_jax.corruption.rates import Rate, Schedule
from denoise_jax.corruption.record import Corruption, Noised, Op, output_setter, write
from denoise_jax.corruption.row_partition import RowPartition, put, take
from denoise_jax.corruption.symbols import Symbols


def masked_fragment(
    symbols: Symbols,
    *,
    mask_prob: float | Schedule = 0.5,
    random_prob: float | Schedule = 0.1,
    keep_prob: float | Schedule = 0.1,
    edge_prob: float | Schedule = 0.2,
) -> Corruption:
    """Hides one fragment of round(mask_prob x tokens) tokens, counting those that noise may change.

    The fragment has at least one token and leaves at least one visible, unless the text has only one. The
    input keeps its length: each token of the fragment becomes a mask or a random token, or is kept. The
    decoder writes the complete fragment.

    Args:
      mask_prob: share of the tokens in the fragment; above 0.
      random_prob: probability that a token of the fragment becomes a random token of text.
      keep_prob: probability that a token of the fragment is kept.
      edge_prob: probability that the fragment starts at the first token, and that it ends at the last, each
        0 to 0.5; otherwise its start is uniform over all other positions. If there are no others, each of
        the two gets half of the remaining probability. If a schedule exceeds 0.5, the probability of the
        last token is reduced.

    Protected tokens and those written by earlier noise are skipped: the fragment continues after them.

    Raises CorruptionError for an option out of bounds, or if random_prob + keep_prob is above 1.
    """
    rate = Rate(mask_prob, "mask_prob")
    random_rate, keep_rate = Rate(random_prob, "random_prob"), Rate(keep_prob, "keep_prob")
    if rate.never:
        raise CorruptionError("mask_prob=0 leaves the decoder nothing to write; give more than 0")
    if None not in (random_rate.share, keep_rate.share) and random_rate.share + keep_rate.share > 1:
        raise CorruptionError(
            f"random_prob={random_prob} and keep_prob={keep_prob} are shares of the same tokens: "
            "their sum must not exceed 1"
        )
    if not callable(edge_prob):
        check_number("edge_prob", edge_prob, 0, 0.5, must="lie between 0 and 0.5, as a text has two edges")
    edge = Rate(edge_prob, "edge_prob")

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        positions, partition = noised.partition.where(symbols.eligible(noised))
        sizes = partition.row_lengths
        most = tf.maximum(sizes - 1, tf.minimum(sizes, 1))
        length = tf.minimum(tf.maximum(rate.counts(sizes, noised.steps, "round"), 1), most)
        start = _starts(sizes - length, edge, noised.steps, key)
        offsets = partition.offsets
        inside = (offsets >= partition.broadcast(start)) & (offsets < partition.broadcast(start + length))
        index, output_partition = partition.where(inside)
        fragment = take(positions, index)  # [F]
        return _hide(symbols, noised, fragment, output_partition, random_rate, keep_rate, key)._replace(
            outputs=take(noised.ids, fragment),
            output_source=take(noised.source, fragment),
            output_partition=output_partition,
        )

    return output_setter(corrupt)


def _starts(last: tf.Tensor, edge: Rate, steps: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Start of each example's fragment, 0 ... last: [E]."""
    one_each, draws = RowPartition.from_row_lengths(tf.ones_like(last)), draw(key, "fragment.edge")
    at_first = edge.hits(draws, one_each, steps)
    at_last = edge.hits(tf.bitwise.invert(draws), one_each, steps)  # excludes the same draw at_first
    start = draw(key, "fragment.start")
    between = tf.where(last > 1, 1 + start % tf.maximum(last - 1, 1), start % (last + 1))
    return tf.where(at_first, 0, tf.where(at_last, last, between))


def _hide(
    symbols: Symbols,
    noised: Noised,
    fragment: tf.Tensor,
    partition: RowPartition,
    random_rate: Rate,
    keep_rate: Rate,
    key: tf.Tensor,
) -> Noised:
    """Masks, randomises or keeps each token at the positions `fragment` [F], which `partition` divides."""
    draws = draw(key, "fragment.kind", partition)
    is_random = random_rate.hits(draws, partition, noised.steps)
    # Small draws make a token random and large ones keep it, so one draw cannot do both.
    stays = keep_rate.hits(tf.bitwise.invert(draws), partition, noised.steps) & ~is_random
    random_ids = symbols.random_ids(draw(key, "fragment.random_ids", partition))
    ids = tf.where(is_random, random_ids, symbols.mask_token)
    ops = tf.where(is_random, int(Op.RANDOM), int(Op.MASK))

    def scattered(values: tf.Tensor) -> tf.Tensor:
        """[F] to [N], with zeros elsewhere."""
        return put(values, fragment, tf.zeros_like(noised.ids, values.dtype))

    return write(noised, scattered(~stays), scattered(ids), scattered(ops))
