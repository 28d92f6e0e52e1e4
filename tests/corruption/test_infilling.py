"""Text infilling: budget, coverage, span law, insertions, protected tokens, edges.

Seeds are fixed, so a passing test passes always; the false-alarm rates say how surprising a failure after
a change would be.
"""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise_jax.corruption.infilling import _spans_on_ring, text_infilling
from denoise_jax.corruption.record import Noised, Op, TargetNoise, clean
from denoise_jax.corruption.symbols import CorruptionError, Symbols
from denoise_jax.corruption.spans import exact_share, span_law

SYMBOLS = Symbols(mask_token=4, vocab_size=1000, protected=(0, 1, 2, 3))


def hidden(noised: Noised) -> np.ndarray:
    return noised.target_noise == TargetNoise.HIDDEN


@pytest.mark.parametrize(
    ("law", "budget"),
    [
        ("geometric", "ceil"),
        ("uniform", "ceil"),
        ("poisson", "ceil"),
        ("poisson", "floor"),
        ("poisson", "round"),
    ],
)
def test_budget_is_exact_in_every_sample(symbols, audit, law, budget):
    round_ = {"ceil": math.ceil, "floor": math.floor, "round": lambda x: math.floor(x + 0.5)}[budget]
    for rate in (0.0, 0.07, 0.3, 0.5, 1.0):
        corrupt = text_infilling(symbols, mask_prob=rate, span_length=law, budget=budget)
        examples = tf.data.Dataset.range(60).map(
            lambda i, corrupt=corrupt: corrupt(
                clean(10 + tf.range(tf.cast(i % 30, tf.int32))), tf.stack([i, 7])
            )
        )
        for index, columns in enumerate(examples.as_numpy_iterator()):
            noised = Noised(*columns)
            n, masks, inserts = index % 30, (noised.op == Op.MASK).sum(), (noised.op == Op.INSERT).sum()
            assert hidden(noised).sum() == round_(exact_share(rate, "") * n)
            assert len(noised.ids) == n - hidden(noised).sum() + masks + inserts
            audit(noised)


def test_decimal_rates_do_not_round_up():
    """0.07 x 100 is 7.000000000000001 in floating point, whose ceiling is 8."""
    noised = text_infilling(SYMBOLS, mask_prob=0.07)(clean(tf.range(10, 110)), tf.constant([1, 2]))
    assert np.sum(hidden(noised)) == 7


@pytest.mark.parametrize("law", ["geometric", "poisson", "constant"])
def test_coverage_is_uniform_over_positions(symbols, text, draw_many, law):
    """Largest |z| of 20 positions below 4.2: a false alarm in about 1 of 1,900 sets of seeds."""
    keys, n = 4000, 20
    rows = draw_many(text_infilling(symbols, span_length=law), text(n), keys)
    share = 0.3  # 6 of 20
    z = (np.mean([hidden(row) for row in rows], 0) - share) / math.sqrt(share * (1 - share) / keys)
    assert np.abs(z).max() < 4.2


def ring(law: str, hide: int, keys: int):
    """Starts and ends of the spans that hide `hide` of 1,000 places, for each of that many keys."""
    spans = tf.data.Dataset.range(keys).map(
        lambda i: _spans_on_ring(tf.constant(1000), tf.constant(hide), span_law(law, 3.0), tf.stack([i, 5]))
    )
    return [(starts, ends[1:]) for starts, ends in spans.as_numpy_iterator()]


@pytest.mark.parametrize(
    ("law", "expected"),
    [
        ("geometric", [2 ** (k - 1) / 3**k for k in range(1, 9)]),
        ("poisson", [3**k * math.exp(-3) / math.factorial(k) / (1 - math.exp(-3)) for k in range(1, 9)]),
        ("uniform", [0.2] * 5),
    ],
)
def test_span_lengths_follow_the_law(chi_square, law, expected):
    """p above 1e-4, the false-alarm rate, for the first 20 spans of each: a budget of 300 cuts none."""
    lengths = np.concatenate([(ends - starts)[:20] for starts, ends in ring(law, 300, 400)])
    counts = np.bincount(np.minimum(lengths, 9), minlength=10)[1:]
    rest = 1 - sum(expected)
    if rest < 1e-9:
        assert counts[len(expected) :].sum() == 0
        assert chi_square(counts[: len(expected)], expected) > 1e-4
    else:
        assert chi_square(counts, [*expected, rest]) > 1e-4


def test_spans_do_not_overlap_and_their_number_is_the_renewal_law():
    """E[K] = (B + E[L^2] / (2 E[L]) - 1/2) / E[L], B the budget; 3 standard errors (0.3 % false alarms)."""
    counts = []
    for starts, ends in ring("poisson", 153, 2000):
        assert (ends > starts).all()
        assert (starts[1:] >= ends[:-1]).all()
        assert (ends - starts).sum() == 153
        assert ends[-1] <= 1000
        counts.append(len(starts))
    mean = 3 / (1 - math.exp(-3))
    expected = (153 + 4 / 2 - 0.5) / mean  # E[L^2] / E[L] = 1 + lambda
    assert abs(np.mean(counts) - expected) < 3 * np.std(counts) / math.sqrt(len(counts))


def test_number_of_zero_length_spans(symbols, text, draw_many):
    """Poisson(3): q / (1 - q) insertions a span, q = exp(-3); 3 standard errors (0.3 % false alarms)."""
    rows = draw_many(text_infilling(symbols, span_length="poisson"), text(512), 1000)
    zeros = [(row.op == Op.INSERT).sum() for row in rows]
    q = math.exp(-3)
    expected = (154 + 4 / 2 - 0.5) / (3 / (1 - q)) * q / (1 - q)
    assert abs(np.mean(zeros) - expected) < 3 * np.std(zeros) / math.sqrt(len(zeros))


def test_insertions_reach_every_gap_and_both_ends(symbols, draw_many, chi_square):
    """One span of 2 hidden in 6: each gap of what is left gets insertions alike; p above 1e-4."""
    noised = clean(tf.constant([1, 10, 11, 12, 13, 14, 15, 2]))
    corrupt = text_infilling(symbols, mask_prob=0.3, span_length="poisson", mean_span_length=0.5)
    places = []
    for row in draw_many(corrupt, noised, 6000):
        assert (row.ids[0], row.ids[-1]) == (1, 2)
        if (row.op == Op.INSERT).sum() == 1:
            columns = len(row.ids) - 3  # eligible tokens and masks left
            if columns == 6 - 2 + 1:
                places.append(np.flatnonzero(row.op == Op.INSERT)[0] - 1)
    assert chi_square(np.bincount(places, minlength=6), 1 / 6) > 1e-4


def test_no_insertions_unless_asked_for(symbols, text, draw_many):
    for options in ({"span_length": "poisson", "zero_length_spans": False}, {"span_length": "geometric"}):
        for row in draw_many(text_infilling(symbols, **options), text(100), 50):
            assert not (row.op == Op.INSERT).any()


def test_insertion_sources_name_the_token_behind_them(symbols, text, draw_many, audit):
    corrupt = text_infilling(symbols, mask_prob=0.2, span_length="poisson", mean_span_length=0.3)
    at_end = 0
    for row in draw_many(corrupt, text(12), 100):
        audit(row)
        behind = [*row.source[1:], 13]
        inserted = row.op == Op.INSERT
        np.testing.assert_array_equal(row.source[inserted], np.array(behind)[inserted])
        at_end += inserted[-1]
    assert at_end


def test_masks_hide_what_their_provenance_says(symbols, text, draw_many):
    """Nothing was moved, so a mask hides the targets from its source on, and nobody else does."""
    for row in draw_many(text_infilling(symbols, span_length="poisson"), text(60), 100):
        masks = row.op == Op.MASK
        positions = [
            p
            for s, span in zip(row.source[masks], row.span[masks], strict=True)
            for p in range(s, s + span - 1)
        ]
        np.testing.assert_array_equal(positions, 1 + np.flatnonzero(hidden(row)))


@settings(max_examples=40)
@given(
    ids=st.lists(st.sampled_from([1, 2, 3, 4, *range(10, 40)]), max_size=40),
    rate=st.sampled_from([0.0, 0.15, 0.3, 0.5, 0.999, 1.0]),
    seed=st.integers(0, 2**62),
)
def test_protected_tokens_stay_and_the_budget_holds(audit, compiled, ids, rate, seed):
    targets = np.array(ids, np.int32)
    noised = Noised(*(column.numpy() for column in compiled(rate)(clean(tf.constant(targets)), [seed, 1])))
    audit_masked = noised._replace(targets=np.where(targets == 4, 5, targets))  # audit knows a mask as noise
    assert (noised.target_noise != TargetNoise.DELETED).all()
    protected = targets < 10
    assert not hidden(noised)[protected].any()
    assert hidden(noised).sum() == math.ceil(exact_share(rate, "") * (~protected).sum())
    np.testing.assert_array_equal(noised.ids[noised.op == Op.KEEP], targets[~hidden(noised)])
    if 4 not in ids:
        audit(audit_masked)


@pytest.fixture(scope="session")
def compiled():
    """compiled(rate): Poisson infilling as one traced function of any length, kept for the session."""
    traced = {}

    def get(rate):
        if rate not in traced:
            corrupt = text_infilling(SYMBOLS, mask_prob=rate, span_length="poisson", mean_span_length=1.0)
            traced[rate] = tf.function(corrupt, reduce_retracing=True)
        return lambda noised, key: traced[rate](noised, tf.constant(key, tf.int64))

    return get


@pytest.mark.parametrize("law", ["poisson", "geometric"])
def test_edges(symbols, audit, law):
    def infill(ids, **options):
        corrupt = text_infilling(symbols, span_length=law, **options)
        noised = Noised(*(c.numpy() for c in corrupt(clean(tf.constant(ids, tf.int32)), tf.constant([3, 4]))))
        audit(noised)
        return noised

    for rate in (0.0, 0.3, 1.0):
        assert infill([], mask_prob=rate).ids.tolist() == []
        assert infill([1, 2], mask_prob=rate).ids.tolist() == [1, 2]  # all protected
        assert infill([1], mask_prob=rate).ids.tolist() == [1]
    assert len(infill([10], mask_prob=0.3).ids) >= 1
    assert infill([10, 11, 12], mask_prob=0.0).ids.tolist() == [10, 11, 12]  # the identity
    assert infill([10, 11, 12], mask_prob=0.3, budget="floor").ids.tolist() == [10, 11, 12]
    assert set(infill(range(10, 40), mask_prob=1.0).ids.tolist()) == {4}
    assert infill([10, 3, 11], mask_prob=1.0, zero_length_spans=False).ids.tolist() == [4, 3, 4]  # a cut span


def test_constant_and_clipped_lengths(symbols, text, draw_many):
    for row in draw_many(text_infilling(symbols, span_length="poisson", max_span_length=2), text(50), 30):
        assert row.span.max() <= 3
    whole = text_infilling(symbols, mask_prob=1.0, span_length="constant", mean_span_length=10)
    assert max(row.span.max() for row in draw_many(whole, text(50), 10)) == 11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_prob": 1.5}, r"mask_prob=1\.5"),
        ({"mask_prob": -0.1}, r"mask_prob=-0\.1"),
        ({"mask_prob": math.nan}, "mask_prob=nan"),
        ({"span_length": "gaussian"}, "span_length='gaussian'.*geometric"),
        ({"mean_span_length": 0.5}, r"mean_span_length=0\.5.*geometric"),
        ({"mean_span_length": 0, "span_length": "poisson"}, "mean_span_length=0 .*poisson"),
        ({"mean_span_length": 2.5, "span_length": "constant"}, r"mean_span_length=2\.5.*whole"),
        ({"mean_span_length": 2.3, "span_length": "uniform"}, r"mean_span_length=2\.3"),
        ({"max_span_length": 0}, "max_span_length=0"),
        ({"max_span_length": 2, "span_length": "constant"}, "max_span_length=2.*constant"),
        ({"replace_length": 0}, "replace_length=0"),
        ({"budget": "up"}, "budget='up'.*ceil"),
    ],
)
def test_options_out_of_bounds_are_refused(symbols, options, message):
    with pytest.raises(CorruptionError, match=message):
        text_infilling(symbols, **options)
