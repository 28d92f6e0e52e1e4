"""Distributions of span lengths. Seeds are fixed; p > 1e-4, which is the false-alarm rate of each."""

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.row_partition import RowPartition
from denoise_jax.corruption.span_lengths import DISTRIBUTIONS, look_up, span_length_distribution
from tests.corruption.helpers import chi_square

DRAWS = 40_000


def draws(name="lengths", size=DRAWS):
    return draw(tf.constant([1], tf.int64), name, RowPartition.from_row_lengths(tf.constant([size])))


def zero_truncated_poisson(mean, longest):
    """P(1) ... P(longest)."""
    return stats.poisson.pmf(np.arange(1, longest + 1), mean) / stats.poisson.sf(0, mean)


@pytest.mark.parametrize(
    ("name", "mean", "options", "expected"),
    [
        ("geometric", 3.0, {}, stats.geom.pmf(range(1, 13), 1 / 3)),
        ("geometric", 3.0, {"max_span_length": 3}, [9 / 19, 6 / 19, 4 / 19]),
        ("poisson", 3.0, {}, zero_truncated_poisson(3.0, 9)),
        ("poisson", 3.5, {}, zero_truncated_poisson(3.5, 9)),
        ("poisson", 1.0, {}, zero_truncated_poisson(1.0, 6)),
        ("poisson", 1000.0, {}, zero_truncated_poisson(1000.0, 1150)),
        ("poisson", 3.0, {"max_span_length": 2}, [0.4, 0.6]),
        ("constant", 4.0, {}, [0, 0, 0, 1]),
        ("uniform", 3.0, {}, [0.2] * 5),
        ("uniform", 2.5, {}, [0.25] * 4),
        ("uniform", 3.0, {"max_span_length": 2}, [0.5] * 2),
        ("empirical", 9.9, {"span_length_weights": (2, 0, 1, 1)}, [0.5, 0, 0.25, 0.25]),
        ("empirical", 9.9, {"span_length_weights": (2, 0, 1, 1), "max_span_length": 3}, [2 / 3, 0, 1 / 3]),
    ],
)
def test_lengths_follow_the_distribution(name, mean, options, expected):
    lengths = span_length_distribution(name, mean, **options).lengths(draws()).numpy()
    assert lengths.dtype == np.int32
    counts = np.bincount(np.minimum(lengths, len(expected) + 1), minlength=len(expected) + 2)[1:]
    probabilities = np.array([*expected, max(0.0, 1 - math.fsum(expected))])
    common = probabilities * DRAWS > 5  # Pearson's test requires some in every cell
    assert counts[probabilities < 1e-9].sum() == 0
    if common.sum() > 1:
        rest = [counts[~common].sum()], [probabilities[~common].sum()]
        some = rest[1][0] * DRAWS > 5
        counts = np.append(counts[common], rest[0] if some else [])
        probabilities = np.append(probabilities[common], rest[1] if some else [])
        assert chi_square(counts, probabilities / probabilities.sum()) > 1e-4


@pytest.mark.parametrize("mean", [1.0, 3.0, 3.5])
def test_number_of_empty_spans_before_a_nonempty_one(mean):
    """k with probability q^k (1 - q), q = exp(-lambda)."""
    zeros = span_length_distribution("poisson", mean).zeros_before(draws("zeros")).numpy()
    q = math.exp(-mean)
    cells = int(math.log(20 / DRAWS) / math.log(q)) or 1  # all but the last expect 20 or more
    probabilities = [(1 - q) * q**k for k in range(cells)] + [q**cells]
    counts = np.bincount(np.minimum(zeros, cells), minlength=cells + 1)
    assert chi_square(counts, probabilities) > 1e-4


@pytest.mark.parametrize("name", sorted(set(DISTRIBUTIONS) - {"poisson"}))
def test_only_poisson_has_empty_spans(name):
    distribution = span_length_distribution(
        name, 3.0, span_length_weights=(1, 2) if name == "empirical" else None
    )
    assert distribution.zero == 0
    assert not distribution.zeros_before(draws(size=100)).numpy().any()


def test_extreme_draws_give_the_first_and_the_last_index():
    extremes = tf.constant([-(2**31), -1, 0, 2**31 - 1])
    assert look_up((1.0, 1.0), extremes).numpy().tolist() == [0, 0, 1, 1]
    assert look_up((0.0, 2.0, 0.0), extremes).numpy().tolist() == [1, 1, 1, 1]
    assert look_up((1.0,), extremes).numpy().tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("gaussian", 3.0), {}, "span_length='gaussian'.*geometric, poisson, constant, uniform, empirical"),
        (("geometric", 0.5), {}, r"mean_span_length=0\.5 must lie in 1 \.\.\. 1000"),
        (("geometric", math.nan), {}, "mean_span_length=nan"),
        (("geometric", 1001), {}, "mean_span_length=1001"),
        (("poisson", 0.9), {}, r"mean_span_length=0\.9 must lie in 1"),
        (("poisson", math.inf), {}, "mean_span_length=inf"),
        (("constant", 2.5), {}, r"mean_span_length=2\.5 must be a whole number"),
        (("uniform", 2.3), {}, r"mean_span_length=2\.3 must be a multiple of 0\.5"),
        (("geometric", 3.0), {"max_span_length": 0}, "max_span_length=0"),
        (("geometric", 3.0), {"max_span_length": 2.5}, r"max_span_length=2\.5 must be a whole number"),
        (("constant", 3.0), {"max_span_length": 2}, "max_span_length=2 is below the constant length 3"),
        (("empirical", 3.0), {}, "span_length='empirical' with span_length_weights=None"),
        (("geometric", 3.0), {"span_length_weights": (1,)}, r"'geometric' with span_length_weights=\(1,\)"),
        (("empirical", 3.0), {"span_length_weights": ()}, r"span_length_weights=\(\)"),
        (("empirical", 3.0), {"span_length_weights": (0, 0)}, r"span_length_weights=\(0, 0\)"),
        (("empirical", 3.0), {"span_length_weights": (1, -1)}, r"span_length_weights=\(1, -1\)"),
        (("empirical", 3.0), {"span_length_weights": (0, 1), "max_span_length": 1}, "not all 0"),
        (("empirical", 3.0), {"span_length_weights": (1,), "max_span_length": 0}, "max_span_length=0"),
        (("empirical", "abc"), {"span_length_weights": (1,)}, "mean_span_length='abc'"),
        (("empirical", 3.0), {"span_length_weights": (1,) * 2**16}, "has 65536 lengths; give at most 32768"),
    ],
)
def test_invalid_options_are_refused(arguments, options, message):
    with pytest.raises(CorruptionError, match=message):
        span_length_distribution(*arguments, **options)
