"""Span corruption: spans become sentinels, and the decoder writes what they hide (T5, Raffel et al. 2020).

Unlike in T5's released code, the noise is rotated on a ring, so that every position is hidden equally often
(the released default never hides the first token and always hides the last); the number of spans is reduced
where they do not fit, instead of failing; halves are rounded up; and running out of sentinels is an error or
leaves spans visible, instead of using other ids of the vocabulary.

Shapes: E examples, N corrupted tokens, H hidden tokens, K spans.
"""

from fractions import Fraction

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import MAX_TOKENS, CorruptionError, check_number
from denoise_jax.corruption.rates import Rate, Schedule
from denoise_jax.corruption.record import Corruption, Noised, Op, keep, output_setter, write
from denoise_jax.corruption.row_partition import RowPartition, changes, distances, put, take
from denoise_jax.corruption.symbols import Symbols

MAX_MEAN = 10**6  # twice the denominator of the mean times any int32 fits into int64


def span_corruption(
    symbols: Symbols,
    *,
    noise_density: float | Schedule = 0.15,
    mean_noise_span_length: float = 3.0,
    max_tokens: int = 512,
    random_roll: bool = True,
) -> Corruption:
    """Hides h = round(noise_density x tokens) tokens in k = round(h / mean_noise_span_length) spans.

    `tokens` are those that noise may change. h is at least 1 and at most tokens - 1; a text of one token is
    returned unchanged, and its decoder writes nothing. k is at least 1 and small enough for a visible token
    between spans. The span lengths are a uniformly random composition of h into k parts,
    P(l) = C(h - l - 1, k - 2) / C(h - 1, k - 1), and the gaps between spans one of tokens - h.

    Each run of hidden tokens becomes one sentinel, in the order of `Symbols.sentinels`. The decoder writes
    sentinel, tokens, sentinel, tokens ..., as in T5 but without a final sentinel. The `output_source` of a
    sentinel is that of the token after it.

    Args:
      noise_density: share of the tokens to hide; above 0.
      mean_noise_span_length: mean length of a span, 1 or more.
      max_tokens: longest text for which there must be enough sentinels.
      random_roll: arrange the text in a ring and rotate it at random. Each position is hidden with
        probability h / tokens; a span across the cut becomes two, with a sentinel each. False is T5's own
        distribution: a text begins with a gap and ends with a span.

    A token that is protected, or was written by earlier noise, splits a span around it. If a text runs out of
    sentinels because it is longer than `max_tokens` or has many such tokens, the last spans are left visible,
    so that no sentinel is used twice.

    Raises CorruptionError for an option out of bounds, and if a text of up to `max_tokens` tokens, none of
    them protected, could need more sentinels than the vocabulary has.
    """
    rate, mean = Rate(noise_density, "noise_density"), _checked_mean(mean_noise_span_length)
    if rate.greatest == 0:
        raise CorruptionError("noise_density=0 leaves the decoder nothing to write; give more than 0")
    must = f"be a whole number, 2 to {MAX_TOKENS}"
    max_tokens = check_number("max_tokens", max_tokens, 2, MAX_TOKENS, must=must, whole=True)
    needed = _most_sentinels(rate, mean, max_tokens, random_roll)
    if needed > len(symbols.sentinels):
        raise CorruptionError(
            f"a text of max_tokens={max_tokens} can need {needed} sentinels, but the vocabulary has "
            f"{len(symbols.sentinels)}; build it with {needed}, or choose a smaller max_tokens, a smaller "
            "noise_density or a longer mean_noise_span_length"
        )

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        eligible, partition = noised.partition.where(symbols.eligible(noised))
        sizes = partition.row_lengths
        hide = _hidden_count(rate, sizes, noised.steps)
        hidden = RowPartition.from_row_lengths(hide)
        offset = _hidden_offsets(sizes, hidden, _span_count(hide, sizes, mean), key)  # [H]
        if random_roll:
            turn = draw(key, "spans.turn") % tf.maximum(sizes, 1)
            offset = (offset + hidden.broadcast(turn)) % hidden.broadcast(sizes)
        positions = take(eligible, hidden.broadcast(partition.row_starts) + offset)
        is_hidden = put(tf.ones_like(positions), positions, tf.zeros_like(noised.ids))
        return _replace_by_sentinels(symbols, noised, is_hidden)

    return output_setter(corrupt)


def run_begins(noised: Noised, run: tf.Tensor) -> tf.Tensor:
    """Whether a run begins at each token, bool [N]; adjacent tokens with equal `run` [N], not 0, form one."""
    return (run > 0) & (changes(run) | (noised.partition.offsets == 0))


def collapse(noised: Noised, run: tf.Tensor, ids: tf.Tensor | int, op: int) -> Noised:
    """Replaces each run of KEEP tokens (see `run_begins`) by one token that takes its place.

    `ids` is the id of the new tokens, or [N], of which the entry at the start of each run is used.
    """
    index, _ = noised.partition.where((run == 0) | run_begins(noised, run))
    lengths = distances(index, noised.partition.nvals)  # 1 outside of runs
    written = keep(write(noised, run > 0, ids, op), index)
    return written._replace(span=tf.where(take(run, index) > 0, lengths + 1, written.span))


def _replace_by_sentinels(symbols: Symbols, noised: Noised, is_hidden: tf.Tensor) -> Noised:
    """Replaces each run of tokens with `is_hidden` [N], 0 or 1, by a sentinel, while there are sentinels."""
    begins = tf.cast(run_begins(noised, is_hidden), tf.int32)
    number = tf.maximum(noised.partition.cumsum(begins) - 1, 0)  # of the run, in its example
    has_sentinel = tf.cast(number < len(symbols.sentinels), tf.int32)
    number, begins, is_hidden = number * has_sentinel, begins * has_sentinel, is_hidden * has_sentinel
    ids = take(tf.constant(symbols.sentinels, tf.int32), number)  # [N]
    hidden, partition = noised.partition.where(is_hidden > 0)  # [H]
    # Each hidden token has one output slot, and the first of a run one more, for the sentinel before it.
    slots = RowPartition.from_row_lengths(1 + take(begins, hidden))
    position = take(hidden, slots.value_rowids)
    is_sentinel = (slots.offsets == 0) & (take(begins, position) > 0)
    return collapse(noised, is_hidden, ids, Op.SENTINEL)._replace(
        outputs=tf.where(is_sentinel, take(ids, position), take(noised.ids, position)),
        output_source=take(noised.source, position),
        output_partition=RowPartition.from_row_lengths(partition.sum(slots.row_lengths)),
    )


def _hidden_count(rate: Rate, sizes: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """How many of `sizes` [E] tokens to hide: [E]."""
    most = tf.maximum(sizes - 1, 0)
    return tf.minimum(tf.maximum(rate.counts(sizes, steps, "round"), 1), most)


def _span_count(hide: tf.Tensor, sizes: tf.Tensor, mean: Fraction) -> tf.Tensor:
    """Number of spans that hide `hide` of `sizes` tokens, all [E]; each needs a visible token before it."""
    twice = 2 * mean.denominator * tf.cast(hide, tf.int64)
    rounded = tf.cast((twice + mean.numerator) // (2 * mean.numerator), tf.int32)
    return tf.minimum(tf.maximum(rounded, 1), tf.minimum(hide, sizes - hide))


def _hidden_offsets(sizes: tf.Tensor, hidden: RowPartition, spans: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Offset of each hidden token among its example's `sizes` [E] tokens, ascending within a row: [H].

    The tokens alternate gap, span, gap, span ..., with `spans` [E] of each in an example.
    """
    visible = RowPartition.from_row_lengths(tf.where(spans > 0, sizes - hidden.row_lengths, 0))
    span_begins = _composition(hidden, spans, draw(key, "spans.lengths", hidden))
    gap_begins, _ = visible.where(_composition(visible, spans, draw(key, "spans.gaps", visible)))  # [K]
    gap_ends = tf.concat([gap_begins[1:], [visible.nvals]], 0)
    span = tf.cumsum(tf.cast(span_begins, tf.int32)) - 1  # [H], index into the spans of the batch
    return hidden.offsets + take(gap_ends, span) - hidden.broadcast(visible.row_starts)


def _composition(partition: RowPartition, parts: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Cuts each row into parts [E] non-empty parts, uniformly at random.

    Returns flags where parts begin: bool, in the shape of `draws`, which has a draw for each value.
    """
    # The first value has the least key, and ties keep their order, so it always begins a part.
    return partition.choose(parts, tf.where(partition.offsets == 0, tf.int32.min, draws))


def _most_sentinels(rate: Rate, mean: Fraction, max_tokens: int, random_roll: bool) -> int:
    """The most sentinels that a text of up to `max_tokens` tokens, none of them protected, can need."""
    with tf.init_scope():
        sizes = tf.range(2, max_tokens + 1)
        greatest = Rate(float(rate.greatest), "noise_density")
        hide = _hidden_count(greatest, sizes, tf.zeros_like(sizes, tf.int64))
        if rate.schedule is not None:
            # It may hide any smaller number as well, and the longest text has room for the most spans.
            hide = tf.range(1, 1 + tf.reduce_max(hide))
            sizes = tf.fill(tf.shape(hide), max_tokens)
        spans = _span_count(hide, sizes, mean)
        # Cutting the ring open can split a span only if one has two tokens.
        split = tf.cast(hide > spans, tf.int32) if random_roll else 0
        return int(tf.reduce_max(spans + split))


def _checked_mean(mean: float) -> Fraction:
    must = f"lie in 1 ... {MAX_MEAN}"
    check_number("mean_noise_span_length", mean, 1, MAX_MEAN, must=must)
    return Fraction(str(mean)).limit_denominator(10**6)
