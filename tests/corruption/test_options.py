"""Every numeric option refuses what is not a valid number, by name, when the corruption is built."""

import math

import numpy as np
import pytest

from denoise_jax.corruption import (
    CorruptionError,
    Linear,
    bart_denoising,
    document_rotation,
    gap_sentences,
    masked_fragment,
    prefix_lm,
    sentence_permutation,
    span_corruption,
    text_infilling,
    token_deletion,
    token_insertion,
    token_masking,
    token_replacement,
    token_shuffling,
)
from denoise_jax.corruption.options import MAX_TOKENS, check_number, check_weights
from tests.corruption.helpers import SYMBOLS

SHARES = [
    (token_masking, "mask_prob"),
    (token_masking, "random_prob"),
    (token_masking, "keep_prob"),
    (token_deletion, "deletion_prob"),
    (token_replacement, "replace_prob"),
    (token_insertion, "insert_prob"),
    (token_insertion, "mask_random"),
    (token_shuffling, "shuffle_prob"),
    (sentence_permutation, "permute_sentences"),
    (document_rotation, "rotate_prob"),
    (text_infilling, "mask_prob"),
    (text_infilling, "mask_random"),
    (span_corruption, "noise_density"),
    (gap_sentences, "gap_sentences_ratio"),
    (masked_fragment, "mask_prob"),
    (masked_fragment, "random_prob"),
    (masked_fragment, "keep_prob"),
    (bart_denoising, "mask"),
    (bart_denoising, "insert"),
    (bart_denoising, "rotate"),
]
NUMBERS = [
    (masked_fragment, "edge_prob"),
    (span_corruption, "mean_noise_span_length"),
    (bart_denoising, "poisson_lambda"),
    (text_infilling, "mean_span_length"),
]
COUNTS = [
    (span_corruption, "max_tokens"),
    (prefix_lm, "min_prefix"),
    (token_shuffling, "shuffle_distance"),
    (text_infilling, "max_span_length"),
]
OPTIONAL = ("shuffle_distance", "max_span_length")  # may be None
INVALID = ["abc", "0.3", math.nan, math.inf, [0.3], 10**400]


def _id(value):
    return value.__name__ if callable(value) else str(value)[:8]


@pytest.mark.parametrize("value", [None, *INVALID, True], ids=_id)
@pytest.mark.parametrize(("build", "field"), SHARES + NUMBERS + COUNTS, ids=_id)
def test_errors_for_invalid_numbers_name_the_field(build, field, value):
    """True is a share (1), and None means no limit on a distance or length."""
    if (value is True and (build, field) in SHARES) or (value is None and field in OPTIONAL):
        others = {
            "random_prob": {"keep_prob": 0},
            "keep_prob": {"random_prob": 0},
        }  # shares of the same tokens
        build(SYMBOLS, **{field: value} | others.get(field, {}))
        return
    with pytest.raises(CorruptionError) as caught:
        build(SYMBOLS, **{field: value})
    assert str(caught.value).startswith(f"{field}={value!r} must ")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("value", [0, -1, 1.5, 2**31, 10**20])
@pytest.mark.parametrize(("build", "field"), COUNTS, ids=_id)
def test_counts_are_whole_and_in_bounds(build, field, value):
    with pytest.raises(CorruptionError, match=rf"^{field}={value} must be a whole number"):
        build(SYMBOLS, **{field: value})


@pytest.mark.parametrize(("build", "field"), SHARES + NUMBERS + COUNTS, ids=_id)
def test_numbers_of_any_type_are_accepted(build, field):
    for make in (np.float32, np.float64) if (build, field) in SHARES else (int, float, np.int64, np.float32):
        build(
            SYMBOLS, **{field: make(0.125 if (build, field) in SHARES else 0 if field == "edge_prob" else 4)}
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "0.1"}, r"start='0\.1' must be a finite share, but a str is not a number"),
        ({"end": math.nan}, "end=nan must be a finite share"),
        ({"steps": 0}, r"steps=0 must be a whole number of training steps, 1 or more"),
        ({"steps": True}, "steps=True must be .*, but a bool is not a number"),
        ({"steps": 2.5}, r"steps=2\.5 must be a whole number"),
        ({"begin": None}, "begin=None must be a whole number of training steps, 0 or more"),
        ({"begin": -1}, "begin=-1 must be"),
    ],
)
def test_invalid_linear_schedules_are_refused(options, message):
    with pytest.raises(CorruptionError, match=message):
        Linear(**{"start": 0.1, "end": 0.5, "steps": 10} | options)


def test_whole_numbers_are_returned_as_int():
    for value in (3, 3.0, np.int32(3), np.float32(3)):
        count = check_number("count", value, 1, MAX_TOKENS, must="be a count", whole=True)
        assert (count, type(count)) == (3, int)
    with pytest.raises(CorruptionError, match=r"^share=2 must lie in 0 \.\.\. 1$"):
        check_number("share", 2, 0, 1, must="lie in 0 ... 1")


def test_weights():
    assert check_weights("weights", np.array([1, 0, 3])) == (1.0, 0.0, 3.0)
    refused = [None, 3, "12", ["1"], [None], [True], [], [0, 0], [-1, 2], [math.nan], [math.inf], [1e308] * 2]
    for weights in [*refused, [10**400]]:
        with pytest.raises(CorruptionError, match=r"^weights=.* must be finite numbers, none negative"):
            check_weights("weights", weights)
    for weights in refused[1:]:
        with pytest.raises(
            CorruptionError, match=r"^span_length_weights=.* must be finite numbers, none negative"
        ):
            text_infilling(SYMBOLS, span_length="empirical", span_length_weights=weights)
