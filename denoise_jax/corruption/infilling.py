"""Text infilling: spans of tokens, of any length, each become one mask (Lewis et al. 2019, section 2.2).

Where we differ from BART's released implementation, on purpose: its spans overlap, so that a rate of 0.3
hides some 26.6 %, and its first token is hidden far too seldom. Here the budget is met in every example,
spans never overlap, and every position is as likely to be hidden as any other; placement="overlap" gives
the released behaviour.

Legend of shapes: n columns, e examples, u units (tokens or words), k spans, z insertions.
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
    """Hide exactly `rounding`(mask_prob x units) units in spans that do not overlap.

    Args:
      mask_prob: share of the units (tokens, or words) that spans hide.
      span_length, mean_span_length, max_span_length, span_length_weights: law of lengths in units, see
        `span_lengths.span_length_distribution`. The last span of an example is cut to meet the budget.
      replace_length: 1 puts one mask for each span, 0 nothing at all, -1 one mask for each token.
      mask_random: share of the masks that become a random token of text instead; with replace_length 1 such
        a token stands for its whole span.
      zero_length_spans: the empty spans that the law draws (Poisson alone draws any) become masks which
        hide nothing, anywhere from before the first unit to after the last.
      whole_word: units are words instead of tokens.
      rounding: "ceil", "floor", "round" (halves up), or "stochastic" (exact in the mean).
      placement: "roll" lays the units out as a ring, puts each span into a gap between units that stay
        visible, all gaps alike, then turns the ring at random and opens it: every position is as likely to
        be hidden as any other, and a span that lies over the opening becomes two. "uniform" does not turn,
        so that no span is cut and the ends are hidden less often. "overlap" is what fairseq does: each span
        starts at a unit of its own and runs on over the others to the end of the text at most, so that less
        is hidden than the budget.

    A span over protected tokens becomes one mask for each piece. A text of any length keeps at least one
    token or mask, and one token if replace_length is 0; a text without units comes back as it was.
    Raises CorruptionError for an option outside its bounds.
    """
    rate, random_rate = Rate(mask_prob, "mask_prob"), Rate(mask_random, "mask_random")
    check_rounding(rounding)
    if placement not in PLACEMENTS:
        raise CorruptionError(f"placement={placement!r} is unknown; choose one of {', '.join(PLACEMENTS)}")
    check_number("replace_length", replace_length, -1, 1, must="be 1, 0 or -1", whole=True)
    unit = check_unit(symbols, "word" if whole_word else "token")
    law = span_length_distribution(span_length, mean_span_length, max_span_length, span_length_weights)
    with_insertions = law.zero > 0 and zero_length_spans

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        u = units(symbols, noised, unit)
        hide = rate.counts(u.partition.row_lengths, noised.steps, rounding, key)
        if replace_length == 0:
            hide = tf.minimum(hide, tf.maximum(u.partition.row_lengths - 1, 0))
        spans, lengths = _spans(hide, law, key)
        if placement == "uniform":  # On a ring no span is the last; on a line the one cut may lie anywhere.
            lengths = take(lengths, spans.argsort(draw(key, "infilling.order", spans)))
        starts = _starts(u.partition, hide, spans, lengths, placement, key)
        covering = u.broadcast(_covering(u.partition, spans, starts, lengths, placement, key))
        collapsed = _collapse(symbols, noised, covering, replace_length, random_rate, key)
        if not with_insertions:
            return collapsed
        zeros = spans.sum(law.zeros_before(draw(key, "infilling.zeros", spans)))
        return _insert_masks(symbols, collapsed, RowPartition.from_row_lengths(zeros), random_rate, key)

    return corrupt


def _spans(hide: tf.Tensor, law: SpanLengthDistribution, key: tf.Tensor) -> tuple[RowPartition, tf.Tensor]:
    """Rows of the k spans, and their lengths [k], at least 1, which sum to `hide` [e]; the last is cut."""
    # No length is below 1, so `hide` of them suffice.
    drawn = RowPartition.from_row_lengths(hide)
    lengths = law.lengths(draw(key, "infilling.lengths", drawn))
    after = drawn.cumsum(lengths)
    left = drawn.broadcast(hide) - (after - lengths)
    used, spans = drawn.where(left > 0)
    return spans, tf.gather(tf.minimum(lengths, left), used)


def _starts(
    u: RowPartition, hide: tf.Tensor, spans: RowPartition, lengths: tf.Tensor, placement: str, key: tf.Tensor
) -> tf.Tensor:
    """First unit of each span before any turning: [k], counted through the window.

    With "overlap" spans start at different units, in random order, so that the cut one lies anywhere;
    otherwise starts ascend, and spans do not touch a unit twice.
    """
    if placement == "overlap":
        return tf.boolean_mask(
            u.argsort(draw(key, "infilling.places", u)), u.offsets < u.broadcast(spans.row_lengths)
        )
    # Visible units before each span. A ring of g units has g gaps, a line g + 1.
    gaps = u.row_lengths - hide + (1 if placement == "uniform" else 0)
    gap = draw(key, "infilling.places", spans) % spans.broadcast(tf.maximum(gaps, 1))
    hidden_before = spans.cumsum(lengths) - lengths
    return sort(spans.broadcast(u.row_starts) + gap) + hidden_before


def _covering(
    u: RowPartition,
    spans: RowPartition,
    starts: tf.Tensor,
    lengths: tf.Tensor,
    placement: str,
    key: tf.Tensor,
) -> tf.Tensor:
    """Number, from 1, of the span over each unit, 0 for those that stay visible: [u]."""
    if placement == "overlap":
        return _covering_overlap(
            u, starts, tf.minimum(starts + lengths, spans.broadcast(u.row_starts + u.row_lengths))
        )
    columns = RowPartition.from_row_lengths(lengths)  # of the hidden units, in rows of spans
    hidden, number = columns.offsets + columns.broadcast(starts), columns.value_rowids + 1
    if placement == "roll":
        own = RowPartition.from_row_lengths(spans.sum(lengths))  # the same units in rows of examples
        start = own.broadcast(u.row_starts)
        turn = own.broadcast(draw(key, "infilling.turn") % tf.maximum(u.row_lengths, 1))
        hidden = start + (hidden - start + turn) % own.broadcast(u.row_lengths)
    return put(number, hidden, tf.zeros_like(u.value_rowids))


def _covering_overlap(u: RowPartition, starts: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
    """The same where spans may overlap, and then count as one."""
    begun = bincount(starts, u.nvals)
    depth = tf.cumsum(begun - bincount(ends, u.nvals))
    # Where another span runs on, a start begins no span of its own.
    number = tf.cumsum(tf.cast((begun > 0) & (depth == 1), tf.int32))
    return tf.where(depth > 0, number, 0)


def _collapse(
    symbols: Symbols,
    noised: Noised,
    covering: tf.Tensor,
    replace_length: int,
    random_rate: Rate,
    key: tf.Tensor,
) -> Noised:
    """The record with the columns under a span (number `covering` [n], or 0) replaced."""
    covered = covering > 0
    if replace_length == 0:
        return delete(noised, covered)
    masked = write(noised, covered, symbols.mask_token, Op.MASK)
    if replace_length == 1:
        index, _ = noised.partition.where(~covered | changes(covering))
        runs = distances(index, noised.partition.nvals)  # nothing else is left out
        masked, covered = keep(masked, index), take(covered, index)
        masked = masked._replace(span=tf.where(covered, runs + 1, masked.span))
    if random_rate.never:
        return masked
    chosen = covered & random_rate.hits(
        draw(key, "infilling.random", masked.partition), masked.partition, masked.steps
    )
    ids = symbols.random_ids(draw(key, "infilling.random_ids", masked.partition))
    return masked._replace(
        ids=tf.where(chosen, ids, masked.ids), op=tf.where(chosen, int(Op.RANDOM), masked.op)
    )


def _insert_masks(
    symbols: Symbols, noised: Noised, partition: RowPartition, random_rate: Rate, key: tf.Tensor
) -> Noised:
    """The record with masks that hide nothing: as many as `rows` says, each into a gap, all gaps alike.

    The gaps are those around text and masks, from before an example's first to after its last.
    """
    columns, own = noised.partition.where(
        symbols.eligible(noised) | (noised.op == Op.MASK) | (noised.op == Op.RANDOM)
    )
    gap = draw(key, "infilling.insertions", partition) % partition.broadcast(own.row_lengths + 1)
    gap = sort(
        gap + partition.broadcast(own.row_starts + tf.range(own.nrows))
    )  # a row of g columns has g + 1 gaps
    place = gap - partition.broadcast(own.row_starts + tf.range(own.nrows))
    after = place == partition.broadcast(own.row_lengths)
    neighbour = partition.broadcast(own.row_starts) + place - tf.cast(after, tf.int32)
    before = tf.gather(columns, neighbour) + tf.cast(after, tf.int32)
    ids = tf.fill(tf.shape(before), symbols.mask_token)
    if not random_rate.never:
        chosen = random_rate.hits(
            draw(key, "infilling.random_insertions", partition), partition, noised.steps
        )
        ids = tf.where(chosen, symbols.random_ids(draw(key, "infilling.inserted_ids", partition)), ids)
    return insert(noised, before, partition, ids)
