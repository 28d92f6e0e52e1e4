"""Text infilling: spans of tokens, of random lengths, each become one mask (Lewis et al. 2019, section 2.2).

In BART's released code spans overlap, so that a rate of 0.3 hides about 26.6 %, and the first token is
hidden far too rarely. Here the share is exact in every example, spans do not overlap, and every position is
equally likely to be hidden; placement="overlap" reproduces the released behaviour.

Shapes: E examples, N corrupted tokens, U units (tokens or words), K spans, Z insertions.
"""

from collections.abc import Sequence

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import CorruptionError, check_number
from denoise_jax.corruption.rates import Rate, Schedule, check_rounding
from denoise_jax.corruption.record import Corruption, Noised, Op, delete, insert, keep, write
from denoise_jax.corruption.row_partition import RowPartition, bincount, changes, distances, put, sort, take
from denoise_jax.corruption.span_lengths import SpanLengthDistribution, span_length_distribution
from denoise_jax.corruption.symbols import Symbols
from denoise_jax.corruption.units import check_unit, units

PLACEMENTS = ("roll", "uniform", "overlap")


def text_infilling(
    symbols: Symbols,
    *,
    mask_prob: float | Schedule = 0.3,
    span_length: str = "geometric",
    mean_span_length: float = 3.0,
    max_span_length: int | None = None,
    span_length_weights: Sequence[float] | None = None,
    replace_length: int = 1,
    mask_random: float | Schedule = 0.0,
    zero_length_spans: bool = True,
    whole_word: bool = False,
    rounding: str = "ceil",
    placement: str = "roll",
) -> Corruption:
    """Hides exactly `rounding`(mask_prob x units) units of each example in spans that do not overlap.

    Args:
      mask_prob: share of the units to hide.
      span_length, mean_span_length, max_span_length, span_length_weights: distribution of span lengths, in
        units, see `span_lengths.span_length_distribution`. The last span drawn is cut to meet the share.
      replace_length: 1 replaces each span by one mask, 0 deletes it, -1 replaces each token by a mask.
      mask_random: probability that a mask becomes a random token of text; with replace_length=1 the random
        token takes the place of the span.
      zero_length_spans: whether empty spans, which only the Poisson distribution has, insert a mask that
        hides nothing, anywhere from before the first unit to after the last.
      whole_word: units are words instead of tokens.
      rounding: "ceil", "floor", "round" (half up) or "stochastic" (exact in the mean).
      placement: "roll" arranges the units in a ring, inserts the spans uniformly at random into the gaps
        between visible units, and cuts the ring open at a random point. Every position is equally likely to
        be hidden; a span across the cut becomes two. "uniform" uses a line instead of a ring, which never
        splits a span but hides the ends of a text less often. "overlap" is fairseq's: spans start at
        different random units and may overlap or be cut by the end of the text, so less is hidden.

    A span that contains protected tokens is split into one mask for each run between them. At least one token
    or mask of a text is left, and with replace_length=0 at least one token. A text without units is returned
    unchanged.

    Raises CorruptionError for an option out of bounds.
    """
    rate, random_rate = Rate(mask_prob, "mask_prob"), Rate(mask_random, "mask_random")
    check_rounding(rounding)
    if placement not in PLACEMENTS:
        raise CorruptionError(f"placement={placement!r} is unknown; choose one of {', '.join(PLACEMENTS)}")
    check_number("replace_length", replace_length, -1, 1, must="be 1, 0 or -1", whole=True)
    unit = check_unit(symbols, "word" if whole_word else "token")
    distribution = span_length_distribution(
        span_length, mean_span_length, max_span_length, span_length_weights
    )
    with_insertions = distribution.zero > 0 and zero_length_spans

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        u = units(symbols, noised, unit)
        hide = rate.counts(u.partition.row_lengths, noised.steps, rounding, key)
        if replace_length == 0:
            hide = tf.minimum(hide, tf.maximum(u.partition.row_lengths - 1, 0))
        spans, lengths = _spans(hide, distribution, key)
        if placement == "uniform":  # the span that was cut may be anywhere; on a ring it already is
            lengths = take(lengths, spans.argsort(draw(key, "infilling.order", spans)))
        starts = _starts(u.partition, hide, spans, lengths, placement, key)
        span_ids = u.broadcast(_span_ids(u.partition, spans, starts, lengths, placement, key))
        replaced = _replace(symbols, noised, span_ids, replace_length, random_rate, key)
        if not with_insertions:
            return replaced
        count = spans.sum(distribution.zeros_before(draw(key, "infilling.zeros", spans)))
        return _insert_masks(symbols, replaced, RowPartition.from_row_lengths(count), random_rate, key)

    return corrupt


def _spans(
    hide: tf.Tensor, distribution: SpanLengthDistribution, key: tf.Tensor
) -> tuple[RowPartition, tf.Tensor]:
    """Draws spans until they hide `hide` [E] units, and cuts the last: their partition and lengths [K]."""
    candidates = RowPartition.from_row_lengths(hide)  # enough, since every length is at least 1
    lengths = distribution.lengths(draw(key, "infilling.lengths", candidates))
    hidden_before = candidates.cumsum(lengths) - lengths
    left = candidates.broadcast(hide) - hidden_before
    used, spans = candidates.where(left > 0)
    return spans, tf.gather(tf.minimum(lengths, left), used)


def _starts(
    u: RowPartition, hide: tf.Tensor, spans: RowPartition, lengths: tf.Tensor, placement: str, key: tf.Tensor
) -> tf.Tensor:
    """First unit of each span, before the ring is turned: [K], indices into the units of the batch.

    With "overlap" the starts are distinct units in random order, so that the span that was cut may be
    anywhere. Otherwise they ascend, and the spans are disjoint.
    """
    if placement == "overlap":
        order = u.argsort(draw(key, "infilling.places", u))
        return tf.boolean_mask(order, u.offsets < u.broadcast(spans.row_lengths))
    # A ring of v visible units has v gaps, a line v + 1.
    gaps = u.row_lengths - hide + (1 if placement == "uniform" else 0)
    gap = draw(key, "infilling.places", spans) % spans.broadcast(tf.maximum(gaps, 1))
    hidden_before = spans.cumsum(lengths) - lengths
    return sort(spans.broadcast(u.row_starts) + gap) + hidden_before


def _span_ids(
    u: RowPartition,
    spans: RowPartition,
    starts: tf.Tensor,
    lengths: tf.Tensor,
    placement: str,
    key: tf.Tensor,
) -> tf.Tensor:
    """The span that hides each unit, counted from 1, or 0 if it is visible: [U]."""
    if placement == "overlap":
        return _overlapping_span_ids(u, starts, tf.minimum(starts + lengths, spans.broadcast(u.row_limits)))
    by_span = RowPartition.from_row_lengths(lengths)  # of the hidden units
    hidden, span_ids = by_span.offsets + by_span.broadcast(starts), by_span.value_rowids + 1
    if placement == "roll":
        by_example = RowPartition.from_row_lengths(spans.sum(lengths))  # of the same units
        start = by_example.broadcast(u.row_starts)
        turn = by_example.broadcast(draw(key, "infilling.turn") % tf.maximum(u.row_lengths, 1))
        hidden = start + (hidden - start + turn) % by_example.broadcast(u.row_lengths)
    return put(span_ids, hidden, tf.zeros_like(u.value_rowids))


def _overlapping_span_ids(u: RowPartition, starts: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
    """Like `_span_ids`, for spans which may overlap and are then merged into one."""
    started = bincount(starts, u.nvals)
    depth = tf.cumsum(started - bincount(ends, u.nvals))
    # A span that starts inside another one is part of it.
    span_ids = tf.cumsum(tf.cast((started > 0) & (depth == 1), tf.int32))
    return tf.where(depth > 0, span_ids, 0)


def _replace(
    symbols: Symbols,
    noised: Noised,
    span_ids: tf.Tensor,
    replace_length: int,
    random_rate: Rate,
    key: tf.Tensor,
) -> Noised:
    """Replaces the hidden tokens, those whose entry of `span_ids` [N] is not 0."""
    hidden = span_ids > 0
    if replace_length == 0:
        return delete(noised, hidden)
    masked = write(noised, hidden, symbols.mask_token, Op.MASK)
    if replace_length == 1:
        index, _ = noised.partition.where(~hidden | changes(span_ids))
        lengths = distances(index, noised.partition.nvals)  # 1 for visible tokens
        masked, hidden = keep(masked, index), take(hidden, index)
        masked = masked._replace(span=tf.where(hidden, lengths + 1, masked.span))
    if random_rate.never:
        return masked
    draws = draw(key, "infilling.random", masked.partition)
    chosen = hidden & random_rate.hits(draws, masked.partition, masked.steps)
    ids = symbols.random_ids(draw(key, "infilling.random_ids", masked.partition))
    return masked._replace(
        ids=tf.where(chosen, ids, masked.ids), op=tf.where(chosen, int(Op.RANDOM), masked.op)
    )


def _insert_masks(
    symbols: Symbols, noised: Noised, new: RowPartition, random_rate: Rate, key: tf.Tensor
) -> Noised:
    """Inserts Z masks that hide nothing, divided by `new` among examples, into gaps chosen uniformly.

    The gaps are those between text and masks, before the first of them and after the last.
    """
    positions, partition = noised.partition.where(
        symbols.eligible(noised) | (noised.op == Op.MASK) | (noised.op == Op.RANDOM)
    )
    first_gap = new.broadcast(partition.row_starts + tf.range(partition.nrows))  # each row has one gap more
    gap = draw(key, "infilling.insertions", new) % new.broadcast(partition.row_lengths + 1)
    gap = sort(gap + first_gap) - first_gap
    at_end = tf.cast(gap == new.broadcast(partition.row_lengths), tf.int32)
    neighbour = new.broadcast(partition.row_starts) + gap - at_end
    before = tf.gather(positions, neighbour) + at_end
    ids = tf.fill(tf.shape(before), symbols.mask_token)
    if not random_rate.never:
        chosen = random_rate.hits(draw(key, "infilling.random_insertions", new), new, noised.steps)
        ids = tf.where(chosen, symbols.random_ids(draw(key, "infilling.inserted_ids", new)), ids)
    return insert(noised, before, new, ids)
