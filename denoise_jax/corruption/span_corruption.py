"""Span corruption: spans become sentinels, and the decoder writes what they hide (T5, Raffel et al. 2020).

Where we differ from T5's released code, on purpose: the noise is turned on a ring, so that every position
is hidden equally often (the released default never hides the first token and always the last); more spans
than fit are cut down instead of failing; halves round up; and sentinels never run out unnoticed into the
vocabulary.

Legend of shapes: n columns, e examples, u eligible tokens, h of which are hidden, k spans.
"""

from fractions import Fraction

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import MAX_TOKENS, CorruptionError, check_number
from denoise_jax.corruption.rates import Rate, Schedule
from denoise_jax.corruption.record import Corruption, Noised, Op, keep, write, writing
from denoise_jax.corruption.row_partition import RowPartition, changes, distances, put, take
from denoise_jax.corruption.symbols import Symbols

MAX_MEAN = 10**6  # twice its fraction's denominator, times any int32, stays within int64


def span_corruption(
    symbols: Symbols,
    *,
    noise_density: float | Schedule = 0.15,
    mean_noise_span_length: float = 3.0,
    max_tokens: int = 512,
    random_roll: bool = True,
) -> Corruption:
    """Hide N = round(noise_density x tokens) tokens in K = round(N / mean_noise_span_length) spans.

    N lies between 1 and one less than there are tokens, of which noise counts those it may touch; a text of
    one token stays as it is, and its decoder writes nothing. K is at least 1, and so small that a visible
    token stands between spans. Lengths are a uniformly random composition of N into K parts,
    P(l) = C(N - l - 1, K - 2) / C(N - 1, K - 1), and so are the gaps between spans.

    Each run of hidden tokens becomes one sentinel, the first sentinel for the run that stands first. The
    decoder writes sentinel, tokens, sentinel, tokens ...: T5's arrangement, without a closing sentinel.
    A sentinel's `output_source` is that of the token behind it.

    Args:
      noise_density: share of the tokens that spans hide; above 0.
      mean_noise_span_length: mean length of a span, 1 or more.
      max_tokens: the longest text that the sentinels must suffice for.
      random_roll: lay the text out as a ring and turn it at random: each position is hidden with
        probability N / tokens, and a span that lies over the opening becomes two pieces with a sentinel
        each. False is T5's own law: the text begins with a gap and ends with a span.

    A protected token, or one that earlier noise wrote, cuts the span over it: one more piece. Where a text
    needs more sentinels than there are all the same, since it is longer than `max_tokens` or cut so often,
    its last pieces stay visible: no sentinel is used twice, and no run breaks off.
    Raises CorruptionError for an option outside its bounds, and where a text of up to `max_tokens` tokens,
    none of them protected, can need more sentinels than the vocabulary has.
    """
    rate, mean = Rate(noise_density, "noise_density"), _checked_mean(mean_noise_span_length)
    if rate.greatest == 0:
        raise CorruptionError("noise_density=0 leaves the decoder nothing to write; give more than 0")
    must = f"be a whole number, 2 to {MAX_TOKENS}"
    max_tokens = check_number("max_tokens", max_tokens, 2, MAX_TOKENS, must=must, whole=True)
    needed = _most_pieces(rate, mean, max_tokens, random_roll)
    if needed > len(symbols.sentinels):
        raise CorruptionError(
            f"a text of max_tokens={max_tokens} can need {needed} sentinels, and the vocabulary has "
            f"{len(symbols.sentinels)}; build it with {needed}, or choose a smaller max_tokens, a smaller "
            "noise_density or a longer mean_noise_span_length"
        )

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        columns, u = noised.partition.where(symbols.eligible(noised))
        hide = _hide(rate, u.row_lengths, noised.steps)
        line = RowPartition.from_row_lengths(hide)
        place = _places(
            u.row_lengths, line, _spans(hide, u.row_lengths, mean), key
        )  # [h], in no order once turned
        if random_roll:
            turn = draw(key, "spans.turn") % tf.maximum(u.row_lengths, 1)
            place = (place + line.broadcast(turn)) % line.broadcast(u.row_lengths)
        hidden = take(columns, line.broadcast(u.row_starts) + place)
        covered = put(tf.ones_like(hidden), hidden, tf.zeros_like(noised.ids))
        return _name(symbols, noised, covered)

    return writing(corrupt)


def run_begins(noised: Noised, run: tf.Tensor) -> tf.Tensor:
    """Whether a run begins at each column, bool [n]: neighbours in an example with equal `run` [n], not 0."""
    return (run > 0) & (changes(run) | (noised.partition.offsets == 0))


def collapse(noised: Noised, run: tf.Tensor, ids: tf.Tensor | int, op: int) -> Noised:
    """The record with each run (see `run_begins`; all its columns KEEP) as one column that stands for it.

    `ids` is the id of these columns, or one for each of the n columns, of which a run's first counts.
    """
    index, _ = noised.partition.where((run == 0) | run_begins(noised, run))
    lengths = distances(index, noised.partition.nvals)  # nothing but runs is left out
    written = keep(write(noised, run > 0, ids, op), index)
    return written._replace(span=tf.where(take(run, index) > 0, lengths + 1, written.span))


def _name(symbols: Symbols, noised: Noised, covered: tf.Tensor) -> Noised:
    """The record with each run of columns that are 1 in `covered` [n] (else 0) behind its own sentinel."""
    begins = tf.cast(run_begins(noised, covered), tf.int32)
    number = tf.maximum(noised.partition.cumsum(begins) - 1, 0)
    named = tf.cast(number < len(symbols.sentinels), tf.int32)
    number, begins, covered = number * named, begins * named, covered * named
    ids = take(tf.constant(symbols.sentinels, tf.int32), number)  # [n]
    hidden, partition = noised.partition.where(covered > 0)  # [h]
    slots = RowPartition.from_row_lengths(
        1 + take(begins, hidden)
    )  # a run's first token has its sentinel before it
    column = take(hidden, slots.value_rowids)
    is_name = (slots.offsets == 0) & (take(begins, column) > 0)
    return collapse(noised, covered, ids, Op.SENTINEL)._replace(
        outputs=tf.where(is_name, take(ids, column), take(noised.ids, column)),
        output_source=take(noised.source, column),
        output_partition=RowPartition.from_row_lengths(partition.sum(slots.row_lengths)),
    )


def _hide(rate: Rate, sizes: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """How many of `sizes` [e] tokens spans hide: [e]."""
    most = tf.maximum(sizes - 1, 0)
    return tf.minimum(tf.maximum(rate.counts(sizes, steps, "round"), 1), most)


def _spans(hide: tf.Tensor, sizes: tf.Tensor, mean: Fraction) -> tf.Tensor:
    """Number of spans [e] for `hide` [e] of `sizes` [e] tokens; each needs a hidden and a visible one."""
    twice = 2 * mean.denominator * tf.cast(hide, tf.int64)
    rounded = tf.cast((twice + mean.numerator) // (2 * mean.numerator), tf.int32)
    return tf.minimum(tf.maximum(rounded, 1), tf.minimum(hide, sizes - hide))


def _places(sizes: tf.Tensor, line: RowPartition, spans: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Place among its example's `sizes` [e] tokens, from 0, of each hidden one: [h], in the order of `line`.

    Gap, span, gap, span ...: each example's `spans` [e] of both.
    """
    visible = RowPartition.from_row_lengths(tf.where(spans > 0, sizes - line.row_lengths, 0))
    span_begins = _composition(line, spans, draw(key, "spans.lengths", line))
    gap_begins, _ = visible.where(_composition(visible, spans, draw(key, "spans.gaps", visible)))  # [k]
    gap_ends = tf.concat([gap_begins[1:], [visible.nvals]], 0)
    span = tf.cumsum(tf.cast(span_begins, tf.int32)) - 1  # [h], through the window
    return line.offsets + take(gap_ends, span) - line.broadcast(visible.row_starts)


def _composition(partition: RowPartition, parts: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Where parts begin when each row is cut into `parts` [e] parts, none empty, all ways alike: bool [n]."""
    # The least key of all, and ties fall in order: the first column always begins a part.
    return partition.choose(parts, tf.where(partition.offsets == 0, tf.int32.min, draws))


def _most_pieces(rate: Rate, mean: Fraction, max_tokens: int, random_roll: bool) -> int:
    """The largest number of sentinels that a text of up to `max_tokens` tokens, none protected, can need."""
    with tf.init_scope():
        sizes = tf.range(2, max_tokens + 1)
        hide = _hide(Rate(float(rate.greatest), "noise_density"), sizes, tf.zeros_like(sizes, tf.int64))
        if rate.schedule is not None:
            # Anything up to that; for as much, more tokens leave room for more spans.
            hide = tf.range(1, 1 + tf.reduce_max(hide))
            sizes = tf.fill(tf.shape(hide), max_tokens)
        spans = _spans(hide, sizes, mean)
        # The opening of the ring cuts a span where some span has two tokens.
        cut = tf.cast(hide > spans, tf.int32) if random_roll else 0
        return int(tf.reduce_max(spans + cut))


def _checked_mean(mean: float) -> Fraction:
    must = f"lie in 1 ... {MAX_MEAN}"
    check_number("mean_noise_span_length", mean, 1, MAX_MEAN, must=must)
    return Fraction(str(mean)).limit_denominator(10**6)
