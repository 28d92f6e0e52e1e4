"""Text infilling: spans of tokens, of any length, each become one mask (Lewis et al. 2019, section 2.2).

Where we differ from BART's released implementation, on purpose: its spans overlap, so that a rate of 0.3
hides some 26.6 %, and its first token is hidden far too seldom. Here the budget is met in every example,
spans never overlap, and every position is as likely to be hidden as any other.

Legend of shapes: n columns of the record, K spans, N columns of the result.
"""

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.ordering import ascending, count_up_to
from denoise_jax.corruption.record import Corruption, CorruptionError, Noised, Op, Symbols, TargetNoise, take
from denoise_jax.corruption.spans import SpanLaw, exact_share, span_law

BUDGETS = ("ceil", "floor", "round")


def text_infilling(
    symbols: Symbols,
    *,
    mask_prob: float = 0.3,
    span_length: str = "geometric",
    mean_span_length: float = 3.0,
    max_span_length: int | None = None,
    replace_length: int = 1,
    zero_length_spans: bool = True,
    budget: str = "ceil",
) -> Corruption:
    """Hide exactly `budget`(mask_prob x eligible) tokens in non-overlapping spans, each behind one mask.

    Lengths follow `spans.span_law(span_length, mean_span_length, max_span_length)`; the last is cut to meet
    the budget. Spans fall on the text as on a ring of its eligible tokens: each into a gap between tokens
    that stay visible, all gaps alike; then the ring is turned at random and opened, which makes coverage
    exactly uniform. A span that lies over the opening or over protected tokens becomes one mask for each
    piece. With `zero_length_spans` the empty spans that the law draws (Poisson alone draws any) become
    masks which hide nothing, anywhere from before the first eligible token to after the last.

    The share is the decimal as written; "round" takes halves up. A text of any length keeps at least one
    token or mask, and one without eligible tokens comes back as it was.
    Raises CorruptionError for an option outside its bounds.
    """
    share = exact_share(mask_prob, "mask_prob")
    if budget not in BUDGETS:
        raise CorruptionError(f"budget={budget!r} is no rounding; choose one of {', '.join(BUDGETS)}")
    if replace_length != 1:
        raise CorruptionError(
            f"replace_length={replace_length} is not offered; each span becomes one mask: give 1"
        )
    law = span_law(span_length, mean_span_length, max_span_length)
    added = {"ceil": share.denominator - 1, "floor": 0, "round": share.denominator // 2}[budget]

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        eligible = symbols.eligible(noised.ids)
        units = tf.cumsum(eligible)  # [n] eligible tokens up to here, this one counted
        size = tf.reduce_sum(eligible)
        hide = tf.cast((tf.cast(size, tf.int64) * share.numerator + added) // share.denominator, tf.int32)
        starts, ends = _spans_on_ring(size, hide, law, key)
        covering = _covering_span(units, size, eligible, starts, ends, key)
        kept = _first_columns(covering)
        if not (law.zero and zero_length_spans):
            return _collapse(noised, covering, kept, symbols.mask_token)
        zeros = tf.reduce_sum(law.zeros_before(draw(key, "infilling.zeros", tf.shape(starts))))
        gaps = _gaps(units, size, kept, zeros, key)
        merged = ascending(tf.concat([kept, gaps], 0))
        collapsed = _collapse(noised, covering, merged, symbols.mask_token)
        return _mark_insertions(collapsed, merged, tf.size(eligible), symbols.mask_token)

    return corrupt


def _spans_on_ring(
    size: tf.Tensor, hide: tf.Tensor, law: SpanLaw, key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Starts [K] and ends [K + 1] of the spans that cover `hide` of the `size` places of a ring.

    Both ascend and count places from 0; starts[s - 1] goes with ends[s], and ends[0] = 0 is no span's.
    Lengths need not be shuffled, though the cut one is always last: the ring has no last.
    """
    # No length is below 1, so `hide` of them suffice.
    lengths = law.lengths(draw(key, "infilling.lengths", [hide]))
    after = tf.cumsum(lengths)
    before = after - lengths
    count = tf.reduce_sum(tf.cast(before < hide, tf.int32))
    gaps = tf.maximum(size - hide, 1)  # with nothing visible, the one span after another
    places = ascending(draw(key, "infilling.places", [count]) % gaps)  # visible tokens before each span
    starts = places + tf.slice(before, [0], [count])
    ends = places + tf.minimum(tf.slice(after, [0], [count]), hide)
    return starts, tf.concat([[0], ends], 0)


def _covering_span(units, size, eligible, starts, ends, key) -> tf.Tensor:
    """Number, from 1, of the span over each column once the ring is turned; 0 for visible ones; int32 [n]."""
    turn = draw(key, "infilling.turn", [1])
    ring = tf.maximum(size, 1)
    place = (units + turn % ring) % ring
    begun = count_up_to(starts, place)  # spans that start here or before
    return tf.where(place < tf.gather(ends, begun), begun * eligible, 0)


def _first_columns(covering: tf.Tensor) -> tf.Tensor:
    """Columns that remain, ascending, int32: the visible ones and the first of each run under one span."""
    previous = tf.concat([[0], covering[:-1]], 0)
    return tf.cast(tf.where((covering == 0) | (covering != previous))[:, 0], tf.int32)


def _gaps(units, size, kept, zeros, key) -> tf.Tensor:
    """For each of `zeros` insertions the column it goes before, n meaning the end; int32, any order.

    All gaps of the collapsed text are alike, from the first eligible token to past the last.
    """
    columns = tf.size(units)
    first, last = tf.unstack(count_up_to(units, tf.stack([0, size - 1])))  # columns of eligible tokens
    choices = tf.size(kept) - (columns - 1 - last) - first + 1  # nothing collapses after `last`
    gap = first + draw(key, "infilling.insertions", [zeros]) % choices
    return tf.gather(tf.concat([kept, [columns]], 0), gap)


def _collapse(noised: Noised, covering: tf.Tensor, index: tf.Tensor, mask_token: int) -> Noised:
    """The record with columns `index` [N] (ascending, n is past the end), masks where a span covers them.

    Each column stands for its own tokens and for those of the columns left out behind it; so of a
    repeated index only the last stands for anything.
    """
    columns, hidden = tf.size(noised.ids), covering > 0
    stands = noised.span - 1
    before = tf.concat([[0], tf.cumsum(stands)], 0)  # [n + 1] tokens stood for by the columns before
    edges = tf.gather(before, tf.concat([index, [columns]], 0))
    newly_hidden = tf.raw_ops.DenseBincount(  # unlike a scatter, it passes over the source m + 1
        input=noised.source - 1, size=tf.size(noised.targets), weights=tf.where(hidden, stands, 0)
    )
    masked = noised._replace(
        ids=tf.where(hidden, mask_token, noised.ids),
        op=tf.where(hidden, Op.MASK, noised.op),
        target_noise=tf.maximum(noised.target_noise, TargetNoise.VISIBLE + newly_hidden),
    )
    return take(masked, tf.minimum(index, columns - 1))._replace(span=edges[1:] - edges[:-1] + 1)


def _mark_insertions(collapsed: Noised, index: tf.Tensor, columns: tf.Tensor, mask_token: int) -> Noised:
    """The record with insertions where `index` [N] names the same column as the next, or n, the end."""
    inserted = index == tf.concat([index[1:], [columns]], 0)
    return collapsed._replace(
        ids=tf.where(inserted, mask_token, collapsed.ids),
        source=tf.where(index == columns, tf.size(collapsed.targets) + 1, collapsed.source),
        op=tf.where(inserted, Op.INSERT, collapsed.op),
    )
