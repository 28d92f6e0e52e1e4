"""Prefix language modelling: where a text is cut, and what is on both sides. Seeds are fixed."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise_jax.corruption.compose import chain
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.prefix_lm import prefix_lm
from denoise_jax.corruption.record import Op, TargetNoise, clean
from denoise_jax.corruption.sentence_permutation import sentence_permutation


def lengths(rows) -> np.ndarray:
    return np.array([len(row.ids) for row in rows])


def test_all_cuts_are_alike(symbols, text, draw_many, chi_square):
    """8 tokens, 7 cuts; p above 1e-4, the false-alarm rate."""
    rows = draw_many(prefix_lm(symbols), text(8), 4000)
    counts = np.bincount(lengths(rows), minlength=9)
    assert counts[0] == counts[8] == 0
    assert chi_square(counts[1:8], 1 / 7) > 1e-4


def test_least_prefix_counts_from_the_first_token_of_text(symbols, draw_many, chi_square):
    """Two symbols, then 9 columns of which 3 at least are in the prefix: 6 cuts; p above 1e-4."""
    noised = clean(tf.constant([1, 3, *range(10, 18), 2]))
    rows = draw_many(prefix_lm(symbols, min_prefix=3), noised, 4000)
    counts = np.bincount(lengths(rows), minlength=12)
    assert counts.sum() == counts[5:11].sum()
    assert chi_square(counts[5:11], 1 / 6) > 1e-4


@settings(max_examples=60)
@given(
    texts=st.lists(st.lists(st.sampled_from([1, 2, 3, *range(10, 40)]), max_size=20), max_size=4),
    min_prefix=st.integers(1, 4),
    seed=st.integers(-(2**31), 2**31),
)
def test_prefix_and_rest_are_the_text(symbols, examples, audit, texts, min_prefix, seed):
    record = clean(tf.ragged.constant(texts, tf.int32, ragged_rank=1))
    keys = seed * 10**9 + tf.range(len(texts), dtype=tf.int64)
    for ids, row in zip(
        texts, examples(prefix_lm(symbols, min_prefix=min_prefix)(record, keys)), strict=True
    ):
        audit(row)
        assert [*row.ids, *row.outputs] == ids
        assert [*row.source, *row.output_source] == [*range(1, len(ids) + 1)]
        cut = len(row.ids)
        assert (row.target_noise[:cut] == TargetNoise.VISIBLE).all()
        assert (row.target_noise[cut:] == TargetNoise.DELETED).all()
        lead = next((place for place, token in enumerate(ids) if token >= 10), len(ids))
        assert cut == len(ids) or cut >= lead + min_prefix
        assert (cut < len(ids)) == (len(ids) > lead + min_prefix)


@pytest.mark.parametrize("ids", [[], [10], [1], [1, 2, 3], [1, 10]])
def test_a_text_too_short_to_be_cut_is_all_prefix(symbols, draw_many, audit, ids):
    for row in draw_many(prefix_lm(symbols), clean(tf.constant(ids, tf.int32)), 5):
        audit(row)
        assert (row.ids.tolist(), row.outputs.tolist()) == (ids, [])


def test_the_cut_is_made_in_the_order_that_a_permutation_left(symbols, text, draw_many, audit):
    corrupt = chain([sentence_permutation(symbols), prefix_lm(symbols)])
    orders = set()
    for row in draw_many(corrupt, text(4, 3, 5), 60):
        audit(row)
        whole = [*row.ids, *row.outputs]
        assert [9 + place for place in (*row.source, *row.output_source)] == whole
        assert sorted(whole) == [*range(10, 22)]
        orders.add(tuple(whole))
    assert len(orders) == 6


def test_masks_behind_the_cut_keep_their_account(symbols, text, draw_many, audit):
    corrupt = chain([text_infilling(symbols, span_length="poisson"), prefix_lm(symbols)])
    behind = 0
    for row in draw_many(corrupt, text(40), 50):
        audit(row)
        assert np.sum(row.target_noise == TargetNoise.COVERED) == 12
        assert (row.target_noise[row.output_source - 1] == TargetNoise.DELETED).all()
        kept = row.source[row.op == Op.KEEP]
        assert max(kept, default=0) < min(row.output_source, default=math.inf)
        behind += (row.source[row.op == Op.MASK] > min(row.output_source, default=math.inf)).sum()
    assert behind


@pytest.mark.parametrize("min_prefix", [0, -1, 1.5, math.nan])
def test_least_prefix_out_of_bounds_is_refused(symbols, min_prefix):
    with pytest.raises(CorruptionError, match=f"min_prefix={min_prefix} must be a whole number"):
        prefix_lm(symbols, min_prefix=min_prefix)
