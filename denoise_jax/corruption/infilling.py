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
from denoise_jax.corruption.rates import Rate, Schedule, check_budget
from denoise_jax.corruption.record import Corruption, Noised, Op, delete, insert, keep, write
from denoise_jax.corruption.rows import (
    Rows,
    ascending,
    changes,
    distances,
    occurrences,
    put,
    rows_of_sizes,
    take,
)
from denoise_jax.corruption.spans import SpanLaw, span_law
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
    budget: str = "ceil",
    placement: str = "roll",
) -> Corruption:
    """Hide exactly `budget`(mask_prob x units) units in spans that do not overlap.

    Args:
      mask_prob: share of the units (tokens, or words) that spans hide.
      span_length, mean_span_length, max_span_length, span_length_weights: law of lengths in units, see
        `spans.span_law`. The last span of an example is cut to meet the budget.
      replace_length: 1 puts one mask for each span, 0 nothing at all, -1 one mask for each token.
      mask_random: share of the masks that become a random token of text instead; with replace_length 1 such
        a token stands for its whole span.
      zero_length_spans: the empty spans that the law draws (Poisson alone draws any) become masks which
        hide nothing, anywhere from before the first unit to after the last.
      whole_word: units are words instead of tokens.
      budget: "ceil", "floor", "round" (halves up), or "stochastic" (exact in the mean).
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
    check_budget(budget)
    if placement not in PLACEMENTS:
        raise CorruptionError(f"placement={placement!r} is unknown; choose one of {', '.join(PLACEMENTS)}")
    check_number("replace_length", replace_length, -1, 1, must="be 1, 0 or -1", whole=True)
    unit = check_unit(symbols, "word" if whole_word else "token")
    law = span_law(span_length, mean_span_length, max_span_length, span_length_weights)
    with_insertions = law.zero > 0 and zero_length_spans

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        u = units(symbols, noised, unit)
        hide = rate.counts(u.rows.sizes, noised.steps, budget, key)
        if replace_length == 0:
            hide = tf.minimum(hide, tf.maximum(u.rows.sizes - 1, 0))
        spans, lengths = _spans(hide, law, key)
        if placement == "uniform":  # On a ring no span is the last; on a line the one cut may lie anywhere.
            lengths = take(lengths, spans.order(draw(key, "infilling.order", spans)))
        starts = _starts(u.rows, hide, spans, lengths, placement, key)
        covering = u.spread(_covering(u.rows, spans, starts, lengths, placement, key))
        collapsed = _collapse(symbols, noised, covering, replace_length, random_rate, key)
        if not with_insertions:
            return collapsed
        zeros = spans.sum(law.zeros_before(draw(key, "infilling.zeros", spans)))
        return _insert_masks(symbols, collapsed, rows_of_sizes(zeros), random_rate, key)

    return corrupt


def _spans(hide: tf.Tensor, law: SpanLaw, key: tf.Tensor) -> tuple[Rows, tf.Tensor]:
    """Rows of the k spans, and their lengths [k], at least 1, which sum to `hide` [e]; the last is cut."""
    # No length is below 1, so `hide` of them suffice.
    drawn = rows_of_sizes(hide)
    lengths = law.lengths(draw(key, "infilling.lengths", drawn))
    after = drawn.running_sum(lengths)
    left = drawn.spread(hide) - (after - lengths)
    used, spans = drawn.where(left > 0)
    return spans, tf.gather(tf.minimum(lengths, left), used)


def _starts(
    u: Rows, hide: tf.Tensor, spans: Rows, lengths: tf.Tensor, placement: str, key: tf.Tensor
) -> tf.Tensor:
    """First unit of each span before any turning: [k], counted through the window.

    With "overlap" spans start at different units, in random order, so that the cut one lies anywhere;
    otherwise starts ascend, and spans do not touch a unit twice.
    """
    if placement == "overlap":
        return tf.boolean_mask(u.order(draw(key, "infilling.places", u)), u.place < u.spread(spans.sizes))
    # Visible units before each span. A ring of g units has g gaps, a line g + 1.
    gaps = u.sizes - hide + (1 if placement == "uniform" else 0)
    gap = draw(key, "infilling.places", spans) % spans.spread(tf.maximum(gaps, 1))
    hidden_before = spans.running_sum(lengths) - lengths
    return ascending(spans.spread(u.starts) + gap) + hidden_before


def _covering(
    u: Rows, spans: Rows, starts: tf.Tensor, lengths: tf.Tensor, placement: str, key: tf.Tensor
) -> tf.Tensor:
    """Number, from 1, of the span over each unit, 0 for those that stay visible: [u]."""
    if placement == "overlap":
        return _covering_overlap(u, starts, tf.minimum(starts + lengths, spans.spread(u.starts + u.sizes)))
    columns = rows_of_sizes(lengths)  # of the hidden units, in rows of spans
    hidden, number = columns.place + columns.spread(starts), columns.of + 1
    if placement == "roll":
        own = rows_of_sizes(spans.sum(lengths))  # the same units in rows of examples
        start = own.spread(u.starts)
        turn = own.spread(draw(key, "infilling.turn") % tf.maximum(u.sizes, 1))
        hidden = start + (hidden - start + turn) % own.spread(u.sizes)
    return put(number, hidden, tf.zeros_like(u.of))


def _covering_overlap(u: Rows, starts: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
    """The same where spans may overlap, and then count as one."""
    begun = occurrences(starts, u.columns)
    depth = tf.cumsum(begun - occurrences(ends, u.columns))
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
        index, _ = noised.rows.where(~covered | changes(covering))
        runs = distances(index, noised.rows.columns)  # nothing else is left out
        masked, covered = keep(masked, index), take(covered, index)
        masked = masked._replace(span=tf.where(covered, runs + 1, masked.span))
    if random_rate.never:
        return masked
    chosen = covered & random_rate.hits(draw(key, "infilling.random", masked.rows), masked.rows, masked.steps)
    ids = symbols.random_ids(draw(key, "infilling.random_ids", masked.rows))
    return masked._replace(
        ids=tf.where(chosen, ids, masked.ids), op=tf.where(chosen, int(Op.RANDOM), masked.op)
    )


def _insert_masks(symbols: Symbols, noised: Noised, rows: Rows, random_rate: Rate, key: tf.Tensor) -> Noised:
    """The record with masks that hide nothing: as many as `rows` says, each into a gap, all gaps alike.

    The gaps are those around text and masks, from before an example's first to after its last.
    """
    columns, own = noised.rows.where(
        symbols.eligible(noised) | (noised.op == Op.MASK) | (noised.op == Op.RANDOM)
    )
    gap = draw(key, "infilling.insertions", rows) % rows.spread(own.sizes + 1)
    gap = ascending(gap + rows.spread(own.starts + tf.range(own.count)))  # a row of g columns has g + 1 gaps
    place = gap - rows.spread(own.starts + tf.range(own.count))
    after = place == rows.spread(own.sizes)
    neighbour = rows.spread(own.starts) + place - tf.cast(after, tf.int32)
    before = tf.gather(columns, neighbour) + tf.cast(after, tf.int32)
    ids = tf.fill(tf.shape(before), symbols.mask_token)
    if not random_rate.never:
        chosen = random_rate.hits(draw(key, "infilling.random_insertions", rows), rows, noised.steps)
        ids = tf.where(chosen, symbols.random_ids(draw(key, "infilling.inserted_ids", rows)), ids)
    return insert(noised, before, rows, ids)
