"""Span corruption: how many tokens, which spans, where, and which sentinels.

Seeds are fixed. False-alarm rates say how unlikely a failure by chance is after a change of the noise.
"""

import collections
import dataclasses
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption.compose import chain
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.rates import Linear
from denoise_jax.corruption.record import Op, TargetNoise, clean
from denoise_jax.corruption.sentence_permutation import sentence_permutation
from denoise_jax.corruption.span_corruption import span_corruption
from tests.corruption.helpers import (
    SYMBOLS,
    audit,
    batch_of,
    batch_of_lengths,
    chi_square,
    draw_many,
    examples_of,
    keys_of,
    random_texts,
    text_of,
)


def hidden(example) -> np.ndarray:
    return example.target_noise == TargetNoise.COVERED


def runs(flags) -> list[tuple[bool, int]]:
    """Values and lengths of the runs of equal flags."""
    return [(bool(value), len(list(run))) for value, run in itertools.groupby(flags)]


def expected_counts(n: int, density: str, mean: str) -> tuple[int, int]:
    """Numbers of hidden tokens and of spans for n tokens, in exact arithmetic, half up."""
    if n < 2:
        return 0, 0
    half = Fraction(1, 2)
    hide = min(max(math.floor(Fraction(density) * n + half), 1), n - 1)
    return hide, min(max(math.floor(hide / Fraction(mean) + half), 1), hide, n - hide)


def filled_in(example) -> tuple[list[int], list[int]]:
    """Ids and sources of the input with each sentinel replaced by the tokens after it in the outputs."""
    after, name = {}, None
    for token, source in zip(example.outputs.tolist(), example.output_source.tolist(), strict=True):
        if token >= 900:
            name = token
            after[name] = ([], [])
            announced = source
            continue
        if not after[name][0]:
            assert source == announced  # a sentinel's source is that of the token after it
        after[name][0].append(token)
        after[name][1].append(source)
    ids, sources = [], []
    for token, source, op in zip(example.ids.tolist(), example.source.tolist(), example.op, strict=True):
        tokens, places = after.pop(token) if op == Op.SENTINEL else ([token], [source])
        assert places[0] == source
        ids += tokens
        sources += places
    assert not after
    return ids, sources


# --- how much, and where


@pytest.mark.parametrize("roll", [True, False])
@pytest.mark.parametrize("options", [("0.15", "3"), ("0.5", "2.3"), ("0.3", "1"), ("0.9", "3"), ("1", "1")])
def test_numbers_of_tokens_and_spans_are_exact(options, roll):
    """Also where T5's own code fails, since it requires more spans than there are visible tokens."""
    density, mean = options
    corrupt = span_corruption(
        SYMBOLS,
        noise_density=float(density),
        mean_noise_span_length=float(mean),
        max_tokens=64,
        random_roll=roll,
    )
    sizes = [*range(40), 57, 64] * 3
    for n, example in zip(
        sizes, examples_of(corrupt(batch_of_lengths(sizes), keys_of(len(sizes)))), strict=True
    ):
        hide, spans = expected_counts(n, density, mean)
        assert hidden(example).sum() == hide
        sentinels = (example.op == Op.SENTINEL).sum()
        cut = roll and n > 1 and hidden(example)[0] and hidden(example)[-1]
        assert sentinels == spans + cut
        assert len(example.outputs) == hide + sentinels
        if n % 9 < 3:
            audit(example)


def test_spans_and_gaps_are_uniform_compositions():
    """6 of 12 in 3 spans: 10 x 10 equally likely arrangements, lengths C(5 - l, 1) / C(5, 2); p > 1e-4."""
    corrupt = span_corruption(
        SYMBOLS, noise_density=0.5, mean_noise_span_length=2, random_roll=False, max_tokens=50
    )
    arrangements = collections.Counter(
        tuple(runs(hidden(example))) for example in draw_many(corrupt, text_of(12), 6000)
    )
    assert len(arrangements) == 100
    assert chi_square([*arrangements.values()], 1 / 100) > 1e-4
    assert all(len(arrangement) == 6 and not arrangement[0][0] for arrangement in arrangements)
    for position in range(6):
        lengths = collections.Counter()
        for arrangement, count in arrangements.items():
            lengths[arrangement[position][1]] += count
        distribution = [math.comb(5 - length, 1) / math.comb(5, 2) for length in range(1, 5)]
        assert chi_square([lengths[length] for length in range(1, 5)], distribution) > 1e-4


def test_coverage_is_uniform_over_positions():
    """6 of 20 tokens: largest |z| of 20 positions below 4.2 (1 false alarm in 1,900)."""
    count, share = 6000, 0.3
    examples = draw_many(span_corruption(SYMBOLS, noise_density=0.3), text_of(20), count)
    z = (np.mean([hidden(example) for example in examples], 0) - share) / math.sqrt(
        share * (1 - share) / count
    )
    assert np.abs(z).max() < 4.2


def test_coverage_is_uniform_with_protected_tokens():
    """3 of 10, with start, end and a separator among them: |z| below 4.2 (1 false alarm in 3,700)."""
    ids, count = np.array([1, 10, 11, 12, 13, 3, 14, 15, 16, 17, 18, 19, 2]), 4000
    examples = draw_many(
        span_corruption(SYMBOLS, noise_density=0.3), clean(tf.constant(ids, tf.int32)), count
    )
    shares = np.mean([hidden(example) for example in examples], 0)
    assert (shares[ids < 10] == 0).all()
    assert np.abs(shares[ids >= 10] - 0.3).max() < 4.2 * math.sqrt(0.21 / count)


def test_without_roll_the_first_token_is_visible_and_the_last_hidden():
    for example in draw_many(span_corruption(SYMBOLS, random_roll=False), text_of(30), 100):
        assert not hidden(example)[0]
        assert hidden(example)[-1]


def test_a_schedule_is_evaluated_at_each_examples_step():
    steps = tf.constant([0, 500, 1000, 10**6], tf.int64)
    corrupt = span_corruption(SYMBOLS, noise_density=Linear(0.1, 0.5, steps=1000), max_tokens=200)
    examples = examples_of(corrupt(batch_of_lengths([100] * 4, steps=steps), keys_of(4)))
    assert [hidden(example).sum() for example in examples] == [10, 30, 50, 50]


# --- inputs and outputs


@pytest.mark.parametrize("density", [0.15, 0.5, 1.0])
@pytest.mark.parametrize("roll", [True, False])
def test_outputs_fill_in_the_inputs(density, roll):
    texts = random_texts((1, 2, 3), range(10, 40), longest=30)
    corrupt = span_corruption(SYMBOLS, noise_density=density, max_tokens=30, random_roll=roll)
    noised = corrupt(batch_of(texts), keys_of(len(texts)))
    for ids, example in zip(texts, examples_of(noised), strict=True):
        audit(example)
        sentinels = example.ids[example.op == Op.SENTINEL]
        np.testing.assert_array_equal(sentinels, 900 + np.arange(len(sentinels)))
        np.testing.assert_array_equal(sentinels, example.outputs[example.outputs >= 900])
        assert filled_in(example) == (ids, [*range(1, len(ids) + 1)])
        protected = np.array(ids, int) < 10
        assert not hidden(example)[protected].any()
        assert hidden(example).sum() == expected_counts((~protected).sum(), str(density), "3")[0]


def test_spans_are_contiguous_in_permuted_text():
    corrupt = chain([sentence_permutation(SYMBOLS), span_corruption(SYMBOLS, noise_density=0.4)])
    orders = set()
    for example in draw_many(corrupt, text_of(4, 3, 5, 2), 60):
        audit(example)
        ids, sources = filled_in(example)
        assert [9 + source for source in sources] == ids
        assert sorted(ids) == [*range(10, 24)]
        orders.add(tuple(ids))
    assert 18 <= len(orders) <= 24  # complete sentences, although spans cross their ends


def test_earlier_noise_is_left_alone():
    """30 of 100 tokens are infilled; 35 of the remaining 70 are hidden in spans, which the masks split."""
    first = text_infilling(SYMBOLS)
    symbols_enough = dataclasses.replace(SYMBOLS, sentinels=tuple(range(850, 950)))
    both = chain([first, span_corruption(symbols_enough, noise_density=0.5, max_tokens=100)])
    for example in draw_many(both, text_of(100), 20):
        audit(example)
        masks = example.op == Op.MASK
        assert (example.span[masks] - 1).sum() == 30
        assert hidden(example).sum() == 30 + 35
        assert (example.outputs < 850).sum() == 35


def test_very_short_texts():
    texts = [[], [10], [1], [1, 2], [1, 10, 2], [10, 11]]
    record = clean(tf.ragged.constant(texts * 5, tf.int32, ragged_rank=1))
    examples = examples_of(span_corruption(SYMBOLS)(record, keys_of(30)))
    for ids, example in zip(texts * 5, examples, strict=True):
        audit(example)
        if ids == [10, 11]:
            assert (example.ids.tolist(), example.outputs.tolist()) in [
                ([900, 11], [900, 10]),
                ([10, 900], [900, 11]),
            ]
        else:
            assert (example.ids.tolist(), example.outputs.tolist()) == (ids, [])


# --- not enough sentinels


def test_the_number_of_sentinels_required_is_exact():
    """6 of 12 tokens in 3 spans, one of which the opening of the ring may split: 4 are needed, and occur."""
    options = {"noise_density": 0.5, "mean_noise_span_length": 2, "max_tokens": 12}
    three, four = (dataclasses.replace(SYMBOLS, sentinels=tuple(range(900, 900 + k))) for k in (3, 4))
    with pytest.raises(
        CorruptionError, match=r"max_tokens=12 can need 4 sentinels, but the vocabulary has 3"
    ):
        span_corruption(three, **options)
    span_corruption(three, **options, random_roll=False)
    examples = draw_many(span_corruption(four, **options), text_of(12), 200)
    assert {(example.op == Op.SENTINEL).sum() for example in examples} == {3, 4}
    # Spans of one token cannot be split.
    span_corruption(three, noise_density=0.25, mean_noise_span_length=1, max_tokens=12)
    none = dataclasses.replace(SYMBOLS, sentinels=())
    with pytest.raises(CorruptionError, match=r"can need 27 sentinels, but the vocabulary has 0"):
        span_corruption(none)
    # A schedule passes through all shares up to its largest.
    needs = r"max_tokens=512 can need \d+ sentinels"
    with pytest.raises(CorruptionError, match=needs):
        span_corruption(SYMBOLS, noise_density=Linear(0.8, 0.0, steps=5))
    with pytest.raises(CorruptionError, match=needs):
        span_corruption(SYMBOLS, noise_density=Linear(0.0, 0.8, steps=10**9))


@pytest.mark.parametrize(
    "ids", [[*range(10, 60)], [token for token in range(10, 22) for token in (token, 3)]], ids=["long", "cut"]
)
def test_without_enough_sentinels_the_last_spans_are_visible(ids):
    few = dataclasses.replace(SYMBOLS, sentinels=tuple(range(900, 904)))
    options = {"noise_density": 0.5, "mean_noise_span_length": 2, "max_tokens": 12}
    noised = clean(tf.constant(ids))
    enough = draw_many(span_corruption(SYMBOLS, **options), noised, 40)
    ran_out = 0
    for example, whole in zip(draw_many(span_corruption(few, **options), noised, 40), enough, strict=True):
        audit(example)
        sentinels = np.flatnonzero(whole.op == Op.SENTINEL)
        assert example.ids[example.op == Op.SENTINEL].tolist() == [*range(900, 900 + min(len(sentinels), 4))]
        hidden = set(whole.source[sentinels[:4]].tolist())
        assert hidden == set(example.source[example.op == Op.SENTINEL].tolist())
        assert np.isin(example.outputs, range(900, 1000)).sum() == min(len(sentinels), 4)
        ran_out += len(sentinels) > 4
    assert ran_out > 30


def test_the_largest_share_of_a_schedule_counts_at_any_step():
    few = dataclasses.replace(SYMBOLS, sentinels=tuple(range(900, 904)))

    def hill(step):
        return tf.where((step > 400) & (step < 600), 0.9, 0.05)

    with pytest.raises(CorruptionError, match="can need .* sentinels, but the vocabulary has 4"):
        span_corruption(few, noise_density=hill, max_tokens=40)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_density": 1.5}, r"noise_density=1\.5"),
        ({"noise_density": -0.1}, r"noise_density=-0\.1"),
        ({"noise_density": math.nan}, "noise_density=nan"),
        ({"noise_density": 0.0}, "noise_density=0 leaves the decoder nothing"),
        ({"noise_density": Linear(0.0, 2.0, steps=9)}, r"noise_density=1\.11111"),
        ({"mean_noise_span_length": 0.9}, r"mean_noise_span_length=0\.9"),
        ({"mean_noise_span_length": math.nan}, "mean_noise_span_length=nan"),
        ({"mean_noise_span_length": math.inf}, "mean_noise_span_length=inf"),
        ({"max_tokens": 1}, "max_tokens=1 "),
        ({"max_tokens": 9.5}, r"max_tokens=9\.5"),
        ({"noise_density": 0.5, "mean_noise_span_length": 1}, "256 sentinels.*has 100; build it with 256"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(CorruptionError, match=message):
        span_corruption(SYMBOLS, **options)
