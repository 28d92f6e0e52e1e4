"""Masked fragment: one run of tokens is masked, and the decoder writes it (MASS, Song et al. 2019).

Where we differ from the released code, on purpose. It masks one token more than it asks for, and begins one
place too far to the right: the fragment's first token stays visible. It measures the fragment on the text
with its start symbol, and so up to one token too long. Its uniform starts take in the first place once
more, and never the last. Here the fragment, its length and the law of its start are as they say. Nor does
our decoder know where in the text the fragment stood: MASS gives it the positions of the source.

Legend of shapes: n columns, e examples, u eligible tokens.
"""

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import CorruptionError, check_number
from denoise_jax.corruption.rates import Rate, Schedule
from denoise_jax.corruption.record import Corruption, Noised, Op, write, writing
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
    """Hide one run of round(mask_prob x tokens) tokens, of those that noise may touch.

    At least 1, and one less than there are unless the text has only one. The input keeps its length: each
    token of the run becomes a mask, a random token or stays. The decoder writes all tokens of the run.

    Args:
      mask_prob: share of the tokens in the run; above 0.
      random_prob: share of the run's tokens that become a random token of text.
      keep_prob: share of the run's tokens that stay.
      edge_prob: probability that the run starts at the first token, and that it ends at the last, 0 to 0.5;
        else all other starts are alike. Where there is no other, the two share what is left. A schedule
        may go beyond 0.5, and the last token then gives way.

    Protected tokens, and those that earlier noise wrote, stay where they are; the run goes on behind them.
    Raises CorruptionError for an option outside its bounds, or a random_prob and keep_prob above 1 together.
    """
    rate = Rate(mask_prob, "mask_prob")
    random_rate, keep_rate = Rate(random_prob, "random_prob"), Rate(keep_prob, "keep_prob")
    if rate.never:
        raise CorruptionError("mask_prob=0 leaves the decoder nothing to write; give more than 0")
    if None not in (random_rate.share, keep_rate.share) and random_rate.share + keep_rate.share > 1:
        raise CorruptionError(
            f"random_prob={random_prob} and keep_prob={keep_prob} must not be more than 1 together"
        )
    if not callable(edge_prob):
        check_number("edge_prob", edge_prob, 0, 0.5, must="lie between 0 and 0.5: a text has two edges")
    edge = Rate(edge_prob, "edge_prob")

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        columns, u = noised.partition.where(symbols.eligible(noised))
        length = tf.maximum(rate.counts(u.row_lengths, noised.steps, "round"), 1)
        length = tf.minimum(length, tf.maximum(u.row_lengths - 1, tf.minimum(u.row_lengths, 1)))
        start = _starts(u.row_lengths - length, edge, noised.steps, key)
        inside, output_partition = u.where(
            (u.offsets >= u.broadcast(start)) & (u.offsets < u.broadcast(start + length))
        )
        run = take(columns, inside)  # ascending
        return _hide(symbols, noised, run, output_partition, random_rate, keep_rate, key)._replace(
            outputs=take(noised.ids, run),
            output_source=take(noised.source, run),
            output_partition=output_partition,
        )

    return writing(corrupt)


def _starts(last: tf.Tensor, edge: Rate, steps: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Start of each example's run, 0 ... last [e]: [e]."""
    each, draws = RowPartition.from_row_lengths(tf.ones_like(last)), draw(key, "fragment.edge")
    at_first = edge.hits(draws, each, steps)
    at_last = edge.hits(tf.bitwise.invert(draws), each, steps)  # from the other end of the same draw
    start = draw(key, "fragment.start")
    between = tf.where(last > 1, 1 + start % tf.maximum(last - 1, 1), start % (last + 1))
    return tf.where(at_first, 0, tf.where(at_last, last, between))


def _hide(
    symbols: Symbols,
    noised: Noised,
    run: tf.Tensor,
    partition: RowPartition,
    random_rate: Rate,
    keep_rate: Rate,
    key: tf.Tensor,
) -> Noised:
    """The record with the columns `run`, dealt out as `rows`, masked, made random, or kept."""
    draws = draw(key, "fragment.kind", partition)
    is_random = random_rate.hits(draws, partition, noised.steps)
    # The same draw from its other end: never both, while the two rates are not above 1 together.
    stays = keep_rate.hits(tf.bitwise.invert(draws), partition, noised.steps) & ~is_random
    random_ids = symbols.random_ids(draw(key, "fragment.random_ids", partition))
    ids = tf.where(is_random, random_ids, symbols.mask_token)
    ops = tf.where(is_random, int(Op.RANDOM), int(Op.MASK))

    def in_columns(values: tf.Tensor) -> tf.Tensor:
        return put(values, run, tf.zeros_like(noised.ids, values.dtype))

    return write(noised, in_columns(~stays), in_columns(ids), in_columns(ops))
