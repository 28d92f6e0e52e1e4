"""Rates: exact counts, probabilities, schedules, errors. Seeds are fixed. False-alarm rates say how unlikely
a failure by chance is after a change of the noise."""

import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.rates import ROUNDINGS, Linear, Rate, check_rounding
from denoise_jax.corruption.record import LAST_STEP
from denoise_jax.corruption.row_partition import RowPartition

ROUNDED = {"ceil": math.ceil, "floor": math.floor, "round": lambda x: math.floor(x + Fraction(1, 2))}


def steps(count: int, step: int = LAST_STEP) -> tf.Tensor:
    return tf.fill([count], tf.constant(step, tf.int64))


@settings(max_examples=60)
@given(
    thousandths=st.integers(0, 1000),
    sizes=st.lists(st.integers(0, 2**20), max_size=20),
    rounding=st.sampled_from(sorted(ROUNDED)),
)
def test_counts_are_exact_decimals(thousandths, sizes, rounding):
    """With every rounding: 0.07 x 100 is 7, although the product in floating point is slightly larger."""
    rate = thousandths / 1000
    exact = [ROUNDED[rounding](Fraction(repr(rate)) * size) for size in [*sizes, 100]]
    for value in (
        rate,
        lambda at: tf.fill(tf.shape(at), rate),
    ):  # a number, and a schedule that computes in float32
        counts = Rate(value, "rate").counts(tf.constant([*sizes, 100]), steps(len(exact)), rounding)
        assert counts.dtype == tf.int32
        np.testing.assert_array_equal(counts, exact)


def test_stochastic_counts_are_exact_in_the_mean():
    """0.3 x 7 is 2.1: always 2 or 3, and the mean within 3 standard errors (0.3 % false alarms)."""
    keys = tf.range(20_000, dtype=tf.int64)
    counts = Rate(0.3, "rate").counts(tf.fill([20_000], 7), steps(20_000), "stochastic", keys).numpy()
    assert set(counts.tolist()) == {2, 3}
    assert abs(counts.mean() - 2.1) < 3 * 0.3 / math.sqrt(20_000)
    for rate, size in ((0.3, 10), (0.0, 9), (1.0, 9)):  # nothing to round
        counts = Rate(rate, "rate").counts(tf.fill([500], size), steps(500), "stochastic", keys[:500])
        assert set(counts.numpy().tolist()) == {round(rate * size)}


@pytest.mark.parametrize("rate", [0.001, 0.3, 0.999])
def test_hits_have_the_probability_of_the_rate(rate):
    """|z| below 4 for 100,000 draws (1 false alarm in 16,000); a constant schedule hits the same values."""
    partition = RowPartition.from_row_lengths(tf.fill([1000], 100))
    draws = draw(tf.range(1000, dtype=tf.int64), "hits", partition)
    hits = Rate(rate, "rate").hits(draws, partition, steps(1000)).numpy()
    assert abs(hits.mean() - rate) < 4 * math.sqrt(rate * (1 - rate) / hits.size)
    scheduled = Rate(Linear(rate, rate, 1), "rate").hits(draws, partition, steps(1000))
    np.testing.assert_array_equal(scheduled, hits)


def test_hits_never_and_always():
    partition = RowPartition.from_row_lengths(tf.constant([3]))
    extremes = tf.constant([-(2**31), 0, 2**31 - 1])
    for share, expected in ((0, False), (1, True), (False, False), (True, True)):
        assert (Rate(share, "rate").hits(extremes, partition, steps(1)).numpy() == expected).all()


def test_a_linear_schedule_is_constant_outside():
    schedule = Linear(0.1, 0.5, steps=100, begin=50)
    shares = schedule(tf.constant([0, 50, 51, 100, 150, 151, LAST_STEP], tf.int64))
    assert shares.dtype == tf.float64
    np.testing.assert_allclose(shares, [0.1, 0.1, 0.104, 0.3, 0.5, 0.5, 0.5], rtol=1e-12)


def test_a_schedule_is_evaluated_at_each_examples_step():
    rate = Rate(Linear(0.1, 0.3, steps=100), "rate")
    at = tf.constant([0, 50, 100, 7, LAST_STEP], tf.int64)
    assert rate.counts(tf.constant([100] * 5), at).numpy().tolist() == [10, 20, 30, 12, 30]  # 11.4 rounds up
    partition = RowPartition.from_row_lengths(tf.fill([5], 20_000))
    hits = tf.cast(rate.hits(draw(tf.range(5, dtype=tf.int64), "hits", partition), partition, at), tf.int32)
    shares = partition.sum(hits).numpy() / 20_000
    np.testing.assert_allclose(shares, [0.1, 0.2, 0.3, 0.114, 0.3], atol=4 * 0.46 / math.sqrt(20_000))


def test_a_schedule_is_clipped_to_the_largest_sampled_share():
    rate = Rate(lambda at: tf.where(at == 1_000_001, 1.5, 0.5), "rate")  # a step that is not sampled
    steps = tf.constant([1_000_001, 1_000_002], tf.int64)
    assert rate.counts(tf.constant([10, 10]), steps).numpy().tolist() == [5, 5]
    hill = Rate(lambda at: tf.where((at > 400) & (at < 600), 0.9, 0.1), "rate")
    assert hill.greatest == Fraction(9, 10)
    late = Rate(lambda at: tf.where((at > 200_000) & (at < 210_000), 0.9, 0.1), "rate")
    assert late.greatest == Fraction(9, 10)


def test_only_a_rate_of_zero_is_never():
    assert Rate(0.0, "rate").never
    assert not Rate(0.001, "rate").never
    assert not Rate(
        Linear(0.0, 0.0, 1), "rate"
    ).never  # a schedule may be positive at steps that are not sampled


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, 30])
def test_shares_outside_0_to_1_are_refused(value):
    with pytest.raises(CorruptionError, match=f"some_rate={value:g} must lie between 0 and 1"):
        Rate(value, "some_rate")


@pytest.mark.parametrize(
    ("value", "share"),
    [
        (1e-7, Fraction(1, 10**7)),
        (1e-9, Fraction(1, 10**9)),
        (0.123456789, Fraction(123456789, 10**9)),
        (1 / 3, Fraction(1, 3)),  # not a decimal of nine places, but exactly a third
        (2 / 7, Fraction(2, 7)),
        (Fraction(5, 17), Fraction(5, 17)),
        (np.float32(0.3), Fraction(3, 10)),
        (1 - 1e-16, 1),
    ],
)
def test_fine_shares_are_exact(value, share):
    """Also at sizes, up to the largest int32, where six decimal places would not suffice."""
    rate = Rate(value, "rate")
    assert rate.share == share
    sizes = [0, 1, 10**6, 10**7 + 1, 2**24, 2**31 - 1]
    for rounding, rounded in ROUNDED.items():
        counts = rate.counts(tf.constant(sizes), steps(len(sizes)), rounding)
        np.testing.assert_array_equal(counts, [rounded(share * size) for size in sizes])
    counts = rate.counts(tf.constant(sizes), steps(len(sizes)), "stochastic", tf.range(6, dtype=tf.int64))
    assert all(
        0 <= count - math.floor(share * size) <= 1 for count, size in zip(counts.numpy(), sizes, strict=True)
    )


def test_positive_shares_below_1e_9_are_refused():
    for value in (1e-10, 5e-324):
        with pytest.raises(
            CorruptionError, match=rf"some_rate={value} is too small; give 0, or 1e-09 or more"
        ):
            Rate(value, "some_rate")


@pytest.mark.parametrize("ends", [(-0.1, 0.5), (0.5, 1.1)])
def test_schedules_outside_0_to_1_are_refused(ends):
    with pytest.raises(CorruptionError, match=r"some_rate=(-0\.1|1\.0004) must lie"):
        Rate(Linear(*ends, steps=1000), "some_rate")


def test_unknown_roundings_are_refused():
    with pytest.raises(CorruptionError, match=r"rounding='up'.*ceil, floor, round, stochastic"):
        check_rounding("up")
    assert [check_rounding(rounding) for rounding in ROUNDINGS] == list(ROUNDINGS)


def test_a_schedule_gives_a_share_for_each_step():
    with pytest.raises(
        CorruptionError, match=r"mask_prob: a schedule must return a share for each step.*\(\)"
    ):
        Rate(lambda steps: tf.constant(0.3), "mask_prob")
    for nothing in (None, tf.constant(["much"] * 12)):
        with pytest.raises(CorruptionError, match="mask_prob: a schedule must return numbers"):
            Rate(lambda steps, nothing=nothing: nothing, "mask_prob")
