"""Text infilling: how much is hidden and where, span lengths, replacements and insertions.

Seeds are fixed. False-alarm rates say how unlikely a failure by chance is after a change of the noise.
"""

import collections
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from denoise_jax.corruption.infilling import PLACEMENTS, text_infilling
from denoise_jax.corruption.rates import Linear
from denoise_jax.corruption.record import Op, TargetNoise, clean
from denoise_jax.corruption.symbols import Symbols
from tests.corruption.helpers import (
    SYMBOLS,
    audit,
    batch_of_lengths,
    chi_square,
    draw_many,
    examples_of,
    keys_of,
    text_of,
)

ROUNDED = {"ceil": math.ceil, "floor": math.floor, "round": lambda x: math.floor(x + Fraction(1, 2))}
DISTRIBUTIONS = {
    "geometric": {},
    "poisson": {"span_length": "poisson"},
    "constant": {"span_length": "constant"},
    "uniform": {"span_length": "uniform"},
    "empirical": {"span_length": "empirical", "span_length_weights": (3, 0, 1, 2)},
}
NO_ZEROS = {"span_length": "poisson", "zero_length_spans": False}


def hidden(example) -> np.ndarray:
    return example.target_noise == TargetNoise.COVERED


def masks_of(example) -> np.ndarray:
    """Masks and random tokens: one for each span with replace_length=1."""
    return (example.op == Op.MASK) | (example.op == Op.RANDOM)


# --- how much is hidden


@pytest.mark.parametrize(
    ("name", "rounding", "placement"),
    [
        *itertools.product(DISTRIBUTIONS, ["ceil"], ["roll", "uniform"]),
        ("geometric", "floor", "roll"),
        ("geometric", "round", "uniform"),
    ],
)
def test_the_share_is_exact_in_every_example(name, rounding, placement):
    sizes = [*range(31)] * 2
    for rate in (0.07, 0.3, 1.0):
        corrupt = text_infilling(
            SYMBOLS, mask_prob=rate, rounding=rounding, placement=placement, **DISTRIBUTIONS[name]
        )
        examples = examples_of(corrupt(batch_of_lengths(sizes), keys_of(len(sizes))))
        exact = [ROUNDED[rounding](Fraction(repr(rate)) * size) for size in sizes]
        assert [hidden(example).sum() for example in examples] == exact
        for example in examples[:: 7 if rate in (0.3, 1.0) else 31]:
            audit(example)


def test_decimal_rates_do_not_round_up():
    """0.07 x 100 is 7.000000000000001 in floating point, whose ceiling is 8."""
    examples = draw_many(text_infilling(SYMBOLS, mask_prob=0.07), text_of(100), 3)
    assert [hidden(example).sum() for example in examples] == [7] * 3


def test_stochastic_rounding_is_exact_in_the_mean():
    """0.3 of 21 is 6.3: always 6 or 7, with the mean of 5,000 within 3 standard errors (0.3 %)."""
    examples = draw_many(text_infilling(SYMBOLS, rounding="stochastic"), text_of(21), 5000)
    counts = np.array([hidden(example).sum() for example in examples])
    assert set(counts.tolist()) == {6, 7}
    assert abs(counts.mean() - 6.3) < 3 * math.sqrt(0.3 * 0.7 / len(counts))


def test_a_schedule_is_evaluated_at_each_examples_step():
    steps = tf.constant([0, 500, 1000, 10**6], tf.int64)
    corrupt = text_infilling(SYMBOLS, mask_prob=Linear(0.1, 0.5, steps=1000))
    examples = examples_of(corrupt(batch_of_lengths([100] * 4, steps=steps), keys_of(4)))
    assert [hidden(example).sum() for example in examples] == [10, 30, 50, 50]


def test_whole_words_are_counted_and_hidden():
    """3 of 10 words of 1 to 4 tokens are hidden. The first one starts with a token that does not begin a word
    by the table, and is hidden as often as the others: |z| of each word below 4.2 (1 false alarm in
    3,700)."""
    tokens = [12, 12, 10, 12, 11, 10, 15, 18, 21, 13, 14, 12, 16, 12, 15, 17, 19, 20, 12]
    word = np.cumsum([1 if token % 3 or position == 0 else 0 for position, token in enumerate(tokens)])
    assert word[-1] == 10
    examples = draw_many(
        text_infilling(SYMBOLS, whole_word=True, **NO_ZEROS), clean(tf.constant(tokens)), 4000
    )
    shares = np.zeros(10)
    for example in examples:
        words = set(word[hidden(example)].tolist())
        assert len(words) == 3
        np.testing.assert_array_equal(hidden(example), np.isin(word, list(words)))
        shares[[number - 1 for number in words]] += 1 / len(examples)
    assert np.abs(shares - 0.3).max() < 4.2 * math.sqrt(0.3 * 0.7 / len(examples))


# --- where it is hidden


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_coverage_is_uniform_over_positions(name):
    """Largest |z| of 20 positions below 4.2 (1 false alarm in 1,900 for each distribution)."""
    count, share = 4000, 0.3  # 6 of 20
    examples = draw_many(text_infilling(SYMBOLS, **DISTRIBUTIONS[name]), text_of(20), count)
    z = (np.mean([hidden(example) for example in examples], 0) - share) / math.sqrt(
        share * (1 - share) / count
    )
    assert np.abs(z).max() < 4.2


def test_on_a_line_the_ends_are_hidden_less():
    """The ends have 0.139 and the middle 0.314, measured on 200,000 examples; the bounds are 7.9 and 5.2
    standard errors away (1 false alarm in 10 million)."""
    examples = draw_many(text_infilling(SYMBOLS, placement="uniform", **NO_ZEROS), text_of(40), 2000)
    shares = np.mean([hidden(example) for example in examples], 0)
    assert max(shares[0], shares[-1]) < 0.2 < 0.3 < shares[10:30].mean()


def test_coverage_of_a_line_is_symmetric():
    """A span of 3 and one cut to 1, in 12 tokens, in random order. Each position is hidden as often as its
    mirror image: |z| of 6 pairs below 4 (1 false alarm in 2,600)."""
    options = {"mask_prob": 1 / 3, "span_length": "constant", "placement": "uniform"}
    examples = np.stack(
        [hidden(example) for example in draw_many(text_infilling(SYMBOLS, **options), text_of(12), 4000)]
    )
    differences = (examples.astype(int) - examples[:, ::-1])[:, :6]
    assert np.abs(differences.sum(0) / np.sqrt((differences**2).sum(0))).max() < 4


def test_opening_the_ring_splits_at_most_one_span():
    """9 of 30 tokens are hidden in spans of 3: 3 masks, or 4 if the ring is cut at one of the 2 inner borders
    of one of the 3 spans, 6 of 30 positions; 4 standard errors of 4,000 (1 false alarm in 16,000)."""
    corrupt = text_infilling(SYMBOLS, span_length="constant")
    masks = [example.span[masks_of(example)] - 1 for example in draw_many(corrupt, text_of(30), 4000)]
    assert {len(spans) for spans in masks} == {3, 4}
    for spans in masks:
        if len(spans) == 3:
            assert spans.tolist() == [3, 3, 3]
        else:  # the two parts are at the ends
            assert spans[1:-1].tolist() == [3, 3] and spans[0] + spans[-1] == 3
    cut = np.mean([len(spans) == 4 for spans in masks])
    assert abs(cut - 0.2) < 4 * math.sqrt(0.2 * 0.8 / len(masks))


def test_gaps_are_chosen_uniformly():
    """Two single tokens of 6 are hidden, so 4 are visible: on a ring there are 4 gaps, and the two choose the
    same one in 1/4 and adjacent ones in 1/2 of all examples; on a line there are 5. p > 1e-4."""
    options = {"mask_prob": 0.3, "span_length": "constant", "mean_span_length": 1}
    examples = draw_many(text_infilling(SYMBOLS, **options), text_of(6), 4000)
    apart = np.array([np.diff(np.flatnonzero(hidden(example)))[0] for example in examples])
    counts = np.bincount(np.minimum(apart, 6 - apart), minlength=4)[1:]
    assert chi_square(counts, np.array([1 / 4, 1 / 2, 1 / 4])) > 1e-4
    examples = draw_many(text_infilling(SYMBOLS, placement="uniform", **options), text_of(6), 4000)
    pairs = collections.Counter(tuple(np.flatnonzero(hidden(example)).tolist()) for example in examples)
    chances = {(i, j + 1): (1 if i == j else 2) / 25 for i in range(5) for j in range(i, 5)}
    assert set(pairs) == set(chances)
    assert chi_square([pairs[pair] for pair in chances], np.array([*chances.values()])) > 1e-4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("geometric", stats.geom.pmf(range(1, 9), 1 / 3)),
        ("poisson", stats.poisson.pmf(range(1, 9), 3) / stats.poisson.sf(0, 3)),
        ("uniform", [0.2] * 5),
        ("empirical", [1 / 2, 0, 1 / 6, 1 / 3]),
    ],
)
def test_span_lengths_follow_the_distribution(name, expected):
    """p > 1e-4. On a line, so that only the last span drawn is cut."""
    options = {**DISTRIBUTIONS[name], "zero_length_spans": False, "placement": "uniform"}
    examples = draw_many(text_infilling(SYMBOLS, **options), text_of(512), 200)
    lengths = np.concatenate([example.span[example.op == Op.MASK] - 1 for example in examples])
    counts = np.bincount(np.minimum(lengths, 9), minlength=10)[1:]
    cells = cut_distribution(np.array(expected), 154)
    some = cells > 1e-9
    assert counts[~some].sum() == 0
    assert chi_square(counts[some], cells[some]) > 1e-4


def cut_distribution(probabilities, total) -> np.ndarray:
    """P(1), ... P(8), P(longer) of spans drawn until they hide `total` tokens, the last one cut."""
    reached = np.zeros(total)  # probability that this many are hidden when a span is drawn
    reached[0] = 1.0
    expected = np.zeros(max(total, 9))
    tail = 1 - sum(probabilities)
    for hidden_before in range(total):
        left = total - hidden_before
        for length, chance in enumerate([*probabilities, tail], 1):
            expected[min(length, left) - 1] += reached[hidden_before] * chance
            if length < left:
                reached[hidden_before + length] += reached[hidden_before] * chance
    return np.append(expected[:8], expected[8:].sum()) / expected.sum()


def test_number_of_spans_follows_renewal_theory():
    """E[K] = (B + E[L^2] / (2 E[L]) - 1/2) / E[L] to hide B tokens; 3 standard errors (0.3 %)."""
    options = {"placement": "uniform", **NO_ZEROS}
    counts = [
        masks_of(example).sum()
        for example in draw_many(text_infilling(SYMBOLS, **options), text_of(512), 600)
    ]
    expected = (154 + 4 / 2 - 0.5) / (3 / (1 - math.exp(-3)))  # E[L^2] / E[L] = 1 + lambda
    assert abs(np.mean(counts) - expected) < 3 * np.std(counts) / math.sqrt(len(counts))


def test_overlapping_spans_hide_as_little_as_in_fairseq():
    """1 - prod_j(1 - P(L > j) x 0.3 / E[L]) = 26.62 % of 512 tokens at lambda 3.5, within 0.3 points; the
    mean of 800 examples has a standard error of 0.05 points. Spans that touch become one mask."""
    options = {**NO_ZEROS, "mean_span_length": 3.5, "placement": "overlap"}
    examples = draw_many(text_infilling(SYMBOLS, **options), text_of(512), 800)
    assert abs(np.mean([hidden(example).mean() for example in examples]) - 0.2662) < 0.003
    for example in examples[:20]:
        assert hidden(example).sum() <= 154
        assert (example.span[example.op == Op.MASK] - 1).sum() == hidden(example).sum()


def test_overlapping_spans_rarely_hide_the_first_token():
    """As in fairseq, only a span that starts there hides it: K / n of 60 tokens for K spans. The last token
    is hidden as often as those before it. 3 standard errors of 6,000 examples (0.3 % false alarms each)."""
    options = {**NO_ZEROS, "mean_span_length": 3.5, "placement": "overlap"}
    examples = draw_many(text_infilling(SYMBOLS, **options), text_of(60), 6000)
    shares = np.mean([hidden(example) for example in examples], 0)
    error = math.sqrt(0.27 * 0.73 / len(examples))
    expected = (18 + 4.5 / 2 - 0.5) / (3.5 / (1 - math.exp(-3.5))) / 60
    assert abs(shares[0] - expected) < 3 * error
    assert abs(shares[-1] - shares[20:].mean()) < 3 * error


def test_runs_of_overlapping_spans_are_one_mask():
    """Of two spans, of lengths 9 and 2, the first keeps its length if the second is adjacent to it."""
    options = {"span_length": "constant", "mean_span_length": 9, "placement": "overlap", "mask_prob": 0.9}
    for example in draw_many(text_infilling(SYMBOLS, **options), text_of(12), 200):
        masks = np.flatnonzero(example.op == Op.MASK)
        ends = example.source[masks] + example.span[masks] - 1
        gaps = example.source[masks][1:] - ends[:-1]
        assert ((gaps > 0) | np.isin(example.span[masks][:-1] - 1, (2, 9))).all()
        assert ends[-1] <= 13


# --- replacements


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_length_of_the_corrupted_text(placement):
    """n - B + K + Z, n - B + Z or n + Z for B hidden tokens, K spans and Z insertions."""
    options = {"span_length": "poisson", "placement": placement}
    one_mask, no_mask, mask_per_token = (
        draw_many(text_infilling(SYMBOLS, replace_length=replace_length, **options), text_of(50), 40)
        for replace_length in (1, 0, -1)
    )
    for noise, per_span, examples in (
        (TargetNoise.COVERED, True, one_mask),
        (TargetNoise.DELETED, False, no_mask),
        (TargetNoise.COVERED, False, mask_per_token),
    ):
        for example, with_one_mask in zip(examples, one_mask, strict=True):
            audit(example)
            lost = (example.target_noise == noise).sum()
            spans, zeros = masks_of(example).sum(), (example.op == Op.INSERT).sum()
            if placement != "overlap":
                assert lost == 15
            assert len(example.ids) == 50 + zeros - lost + spans
            if not per_span:
                assert spans == (0 if noise == TargetNoise.DELETED else lost)
            # The spans do not depend on what replaces them.
            np.testing.assert_array_equal(example.target_noise > 1, with_one_mask.target_noise > 1)


def test_masks_hide_what_their_provenance_says():
    """Nothing has moved, so a mask hides the targets from its source on, and each is hidden by one mask."""
    for example in draw_many(
        text_infilling(SYMBOLS, span_length="poisson", mask_random=0.3), text_of(60), 100
    ):
        masks = masks_of(example)
        hides = zip(example.source[masks], example.span[masks], strict=True)
        positions = [position for source, span in hides for position in range(source, source + span - 1)]
        np.testing.assert_array_equal(positions, 1 + np.flatnonzero(hidden(example)))
        assert (example.ids[example.op == Op.MASK] == 4).all()


@pytest.mark.parametrize("replace_length", [1, -1])
def test_a_share_of_masks_and_insertions_is_random_text(replace_length):
    """Shares within 4 standard deviations (1 false alarm in 16,000 each); ids uniform, p > 1e-4."""
    few = Symbols(mask_token=4, vocab_size=40, protected=(0, 1, 9))
    options = {"mask_random": 0.25, "replace_length": replace_length, "mean_span_length": 1.0}
    examples = draw_many(text_infilling(few, span_length="poisson", **options), text_of(30), 1500)
    ids, ops, spans = (
        np.concatenate([getattr(example, name) for example in examples]) for name in ("ids", "op", "span")
    )
    inserted = ops == Op.INSERT
    for drawn, of in (
        (ops == Op.RANDOM, np.isin(ops, (Op.MASK, Op.RANDOM))),
        (inserted & (ids != 4), inserted),
    ):
        assert abs(drawn.sum() / of.sum() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / of.sum())
        counts = np.bincount(ids[drawn], minlength=40)
        assert counts.sum() == counts[few.text_ids].sum()
        assert chi_square(counts[few.text_ids], 1 / len(few.text_ids)) > 1e-4
    assert (spans[inserted] == 1).all()


# --- insertions


def test_number_of_zero_length_spans():
    """Poisson(3): q / (1 - q) insertions per span, q = exp(-3); 3 standard errors (0.3 % false alarms)."""
    examples = draw_many(text_infilling(SYMBOLS, span_length="poisson"), text_of(512), 600)
    zeros = [(example.op == Op.INSERT).sum() for example in examples]
    q = math.exp(-3)
    expected = (154 + 4 / 2 - 0.5) / (3 / (1 - q)) * q / (1 - q)
    assert abs(np.mean(zeros) - expected) < 3 * np.std(zeros) / math.sqrt(len(zeros))


def test_insertions_are_uniform_over_gaps_and_both_ends():
    """With one span of 2 hidden in 6; p > 1e-4."""
    noised = clean(tf.constant([1, 10, 11, 12, 13, 14, 15, 2]))
    corrupt = text_infilling(SYMBOLS, mask_prob=0.3, span_length="poisson", mean_span_length=1.0)
    places = []
    for example in draw_many(corrupt, noised, 6000):
        assert (example.ids[0], example.ids[-1]) == (1, 2)
        if (example.op == Op.INSERT).sum() == 1 and masks_of(example).sum() == 1:
            places.append(np.flatnonzero(example.op == Op.INSERT)[0] - 1)
    assert len(places) > 250
    assert chi_square(np.bincount(places, minlength=6), 1 / 6) > 1e-4


def test_the_source_of_an_insertion_is_the_next_token():
    corrupt = text_infilling(SYMBOLS, mask_prob=0.2, span_length="poisson", mean_span_length=1.0)
    at_end = 0
    for example in draw_many(corrupt, text_of(12), 100):
        audit(example)
        following = np.array([*example.source[1:], 13])
        inserted = example.op == Op.INSERT
        np.testing.assert_array_equal(example.source[inserted], following[inserted])
        at_end += inserted[-1]
    assert at_end


def test_no_insertions_without_zero_length_spans():
    for options in (NO_ZEROS, {"span_length": "geometric"}):
        for example in draw_many(text_infilling(SYMBOLS, **options), text_of(100), 50):
            assert not (example.op == Op.INSERT).any()
