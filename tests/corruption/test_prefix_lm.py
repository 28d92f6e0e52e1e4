"""Prefix language modelling: where a text is cut, inputs and outputs. Seeds are fixed. False-alarm rates say
how unlikely a failure by chance is after a change of the noise."""

import math

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption.compose import chain
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.prefix_lm import prefix_lm
from denoise_jax.corruption.record import Op, TargetNoise, clean
from denoise_jax.corruption.sentence_permutation import sentence_permutation
from tests.corruption.helpers import (
    SYMBOLS,
    audit,
    batch_of,
    chi_square,
    draw_many,
    examples_of,
    keys_of,
    random_texts,
    text_of,
)


def lengths(examples) -> np.ndarray:
    return np.array([len(example.ids) for example in examples])


def test_all_cuts_are_equally_likely():
    """8 tokens, 7 cuts; p > 1e-4."""
    examples = draw_many(prefix_lm(SYMBOLS), text_of(8), 4000)
    counts = np.bincount(lengths(examples), minlength=9)
    assert counts[0] == counts[8] == 0
    assert chi_square(counts[1:8], 1 / 7) > 1e-4


def test_the_minimum_prefix_is_counted_from_the_first_token_of_text():
    """Two special tokens, then 9 tokens of which at least 3 are in the prefix: 6 cuts; p > 1e-4."""
    noised = clean(tf.constant([1, 3, *range(10, 18), 2]))
    examples = draw_many(prefix_lm(SYMBOLS, min_prefix=3), noised, 4000)
    counts = np.bincount(lengths(examples), minlength=12)
    assert counts.sum() == counts[5:11].sum()
    assert chi_square(counts[5:11], 1 / 6) > 1e-4


@pytest.mark.parametrize("min_prefix", [1, 2, 3, 4])
def test_prefix_and_outputs_are_the_text(min_prefix):
    texts = random_texts((1, 2, 3), range(10, 40), longest=20)
    noised = prefix_lm(SYMBOLS, min_prefix=min_prefix)(batch_of(texts), keys_of(len(texts)))
    for ids, example in zip(texts, examples_of(noised), strict=True):
        audit(example)
        assert [*example.ids, *example.outputs] == ids
        assert [*example.source, *example.output_source] == [*range(1, len(ids) + 1)]
        cut = len(example.ids)
        assert (example.target_noise[:cut] == TargetNoise.VISIBLE).all()
        assert (example.target_noise[cut:] == TargetNoise.DELETED).all()
        lead = next((position for position, token in enumerate(ids) if token >= 10), len(ids))
        assert cut == len(ids) or cut >= lead + min_prefix
        assert (cut < len(ids)) == (len(ids) > lead + min_prefix)


@pytest.mark.parametrize("ids", [[], [10], [1], [1, 2, 3], [1, 10]])
def test_a_text_too_short_to_be_cut_is_all_prefix(ids):
    for example in draw_many(prefix_lm(SYMBOLS), clean(tf.constant(ids, tf.int32)), 5):
        audit(example)
        assert (example.ids.tolist(), example.outputs.tolist()) == (ids, [])


def test_permuted_text_is_cut_in_its_new_order():
    corrupt = chain([sentence_permutation(SYMBOLS), prefix_lm(SYMBOLS)])
    orders = set()
    for example in draw_many(corrupt, text_of(4, 3, 5), 60):
        audit(example)
        whole = [*example.ids, *example.outputs]
        assert [9 + position for position in (*example.source, *example.output_source)] == whole
        assert sorted(whole) == [*range(10, 22)]
        orders.add(tuple(whole))
    assert len(orders) == 6


def test_masks_after_the_cut_are_kept():
    corrupt = chain([text_infilling(SYMBOLS, span_length="poisson"), prefix_lm(SYMBOLS)])
    after_cut = 0
    for example in draw_many(corrupt, text_of(40), 50):
        audit(example)
        assert np.sum(example.target_noise == TargetNoise.COVERED) == 12
        assert (example.target_noise[example.output_source - 1] == TargetNoise.DELETED).all()
        kept = example.source[example.op == Op.KEEP]
        assert max(kept, default=0) < min(example.output_source, default=math.inf)
        after_cut += (
            example.source[example.op == Op.MASK] > min(example.output_source, default=math.inf)
        ).sum()
    assert after_cut


@pytest.mark.parametrize("min_prefix", [0, -1, 1.5, math.nan])
def test_an_invalid_minimum_prefix_is_refused(min_prefix):
    with pytest.raises(CorruptionError, match=f"min_prefix={min_prefix} must be a whole number"):
        prefix_lm(SYMBOLS, min_prefix=min_prefix)
