"""Errors in the predicted length of masked spans, against a slow reference and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.evaluation.span_length_metrics import span_length_sums
from denoise_jax.target_kinds import VISIBLE, TargetKind


def _span_errors(guesses, targets, kinds, segments) -> list[int]:
    """The error of each counted span of a row, straight from the definition."""
    errors, start, length = [], 0, len(targets)
    while start < length:
        end = start
        while end < length and kinds[end] == TargetKind.MASKED and segments[end] == segments[start]:
            end += 1
        if end == start:
            start += 1
            continue
        if end < length and segments[end] == segments[start] and kinds[end] in VISIBLE:
            inside = [at for at in range(start, end) if targets[at] != targets[end]]
            ends = [at for at in [*inside, end] if guesses[at] == targets[end]]
            errors.append(ends[0] - end if ends else 1)
        start = end
    return errors


def test_span_lengths_equal_a_slow_reference_on_random_rows():
    random = np.random.default_rng(0)
    shape = (300, 40)
    kinds = random.choice(range(1, 7), shape, p=[0.25, 0.5, 0.1, 0.05, 0.05, 0.05]).astype(np.int32)
    segments = 1 + np.cumsum(random.random(shape) < 0.1, axis=1).astype(np.int32)
    lengths = random.integers(0, 41, (300, 1))
    segments[np.arange(40)[None] >= lengths] = 0
    kinds[segments == 0] = 0
    targets = random.integers(1, 5, shape).astype(
        np.int32
    )  # few ids: spans often contain their closing token
    guesses = np.where(random.random(shape) < 0.5, targets, random.integers(1, 5, shape)).astype(np.int32)
    rows = zip(guesses, targets, kinds, segments, strict=True)
    errors = np.array([error for row in rows for error in _span_errors(*row)])
    assert len(errors) > 500
    sums = jax.jit(span_length_sums)(guesses, targets, kinds, segments)
    assert {name: float(value) for name, value in sums.items()} == {
        "spans": len(errors),
        "exact": np.sum(errors == 0),
        "too_long": np.sum(errors > 0),
        "too_short": np.sum(errors < 0),
        "error": errors.sum(),
        "absolute_error": np.abs(errors).sum(),
    }
    perfect = span_length_sums(*map(jnp.array, (targets, targets, kinds, segments)))
    assert float(perfect["exact"]) == float(perfect["spans"]) == len(errors)


@pytest.mark.parametrize(
    ("guesses", "error"),
    [
        ([1, 7, 8, 9, 5], 0),
        ([1, 2, 3, 9, 5], 0),  # wrong words, right length
        ([1, 7, 9, 9, 5], -1),
        ([1, 9, 8, 9, 5], -2),
        ([9, 7, 8, 9, 5], 0),  # before the span
        ([1, 7, 8, 4, 9], 1),  # after it
    ],
)
def test_span_lengths_worked_out_by_hand(guesses, error):
    """The text 1 7 8 9 5, of which 7 8 was masked: 9 closes the span."""
    M, S = TargetKind.MASKED, TargetKind.IN_PLACE
    rows = [guesses, [1, 7, 8, 9, 5], [S, M, M, S, S], [1] * 5]
    sums = span_length_sums(*(jnp.array([row], jnp.int32) for row in rows))
    assert (float(sums["spans"]), float(sums["error"])) == (1, error)
