"""Masked fragment: its length and start, what replaces it, and the outputs. Seeds are fixed. False-alarm
rates say how unlikely a failure by chance is after a change of the noise."""

import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption.compose import chain
from denoise_jax.corruption.fragments import masked_fragment
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.rates import Linear
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


def fragment_length(n: int, rate: str) -> int:
    """round(rate x n), half up, at least 1, with one token left; in exact arithmetic."""
    return min(max(math.floor(Fraction(rate) * n + Fraction(1, 2)), 1), max(n - 1, min(n, 1)))


def starts_of(examples) -> np.ndarray:
    return np.array([example.output_source[0] for example in examples])


@pytest.mark.parametrize("edge", [0.0, 0.2, 0.5])
def test_distribution_of_the_start(edge):
    """5 of 10 tokens: starts 1 to 6, the edges with their probability and the others uniformly; p > 1e-4."""
    examples = draw_many(masked_fragment(SYMBOLS, edge_prob=edge), text_of(10), 4000)
    counts = np.bincount(starts_of(examples), minlength=7)
    distribution = np.array([edge, *[(1 - 2 * edge) / 4] * 4, edge])
    assert counts.sum() == counts[1:7][distribution > 0].sum()
    assert chi_square(counts[1:7][distribution > 0], distribution[distribution > 0]) > 1e-4


def test_without_a_start_in_between_the_edges_share_the_remaining_probability():
    """2 of 3 tokens: starts 1 and 2 equally often; 4 standard errors (1 false alarm in 16,000)."""
    starts = starts_of(draw_many(masked_fragment(SYMBOLS), text_of(3), 3000))
    assert set(starts.tolist()) == {1, 2}
    assert abs(np.mean(starts == 1) - 0.5) < 4 * 0.5 / math.sqrt(3000)
    one = starts_of(draw_many(masked_fragment(SYMBOLS, edge_prob=0.0), text_of(1), 20))
    assert set(one.tolist()) == {1}


def test_shares_of_masks_random_tokens_and_kept_tokens():
    """40,000 tokens in shares 0.8, 0.1, 0.1, and random tokens uniform over the ids of text; p > 1e-4 for
    each."""
    examples = draw_many(masked_fragment(SYMBOLS), text_of(40), 2000)
    ops = np.concatenate([example.op[example.output_source - 1] for example in examples])
    assert len(ops) == 2000 * 20
    assert chi_square([np.sum(ops == op) for op in (Op.MASK, Op.RANDOM, Op.KEEP)], [0.8, 0.1, 0.1]) > 1e-4
    drawn = np.concatenate([example.ids[example.op == Op.RANDOM] for example in examples])
    counts = np.bincount(np.searchsorted(SYMBOLS.text_ids, drawn), minlength=len(SYMBOLS.text_ids))
    assert np.isin(drawn, SYMBOLS.text_ids).all()
    assert chi_square(counts, 1 / len(SYMBOLS.text_ids)) > 1e-4


@pytest.mark.parametrize(
    ("random_prob", "keep_prob", "op"), [(0, 0, Op.MASK), (1, 0, Op.RANDOM), (0, 1, Op.KEEP)]
)
def test_all_masks_all_random_or_all_kept(random_prob, keep_prob, op):
    corrupt = masked_fragment(SYMBOLS, random_prob=random_prob, keep_prob=keep_prob)
    for example in draw_many(corrupt, text_of(30), 40):
        audit(example)
        assert (example.op[example.output_source - 1] == op).all()
        assert len(example.outputs) == 15


@pytest.mark.parametrize("rate", ["0.15", "0.5", "1.0"])
def test_the_outputs_are_one_fragment_and_nothing_else_changes(rate):
    texts = random_texts((1, 2, 3), range(10, 40), longest=30)
    noised = masked_fragment(SYMBOLS, mask_prob=float(rate))(batch_of(texts), keys_of(len(texts)))
    for ids, example in zip(texts, examples_of(noised), strict=True):
        audit(example)
        targets = np.array(ids, np.int32)
        text = 1 + np.flatnonzero(targets >= 10)
        assert len(example.outputs) == fragment_length(len(text), rate)
        start = np.searchsorted(text, example.output_source[0]) if len(text) else 0
        np.testing.assert_array_equal(example.output_source, text[start : start + len(example.outputs)])
        np.testing.assert_array_equal(example.outputs, targets[example.output_source - 1])
        np.testing.assert_array_equal(example.source, 1 + np.arange(len(ids)))
        changed = (example.op != Op.KEEP) | (example.ids != targets)
        assert np.isin(example.source[changed], example.output_source).all()
        np.testing.assert_array_equal(example.op != Op.KEEP, example.target_noise == TargetNoise.COVERED)
        assert (example.span == 2).all()


@pytest.mark.parametrize("ids", [[], [1], [1, 2]])
def test_texts_of_special_tokens_are_unchanged(ids):
    for example in draw_many(masked_fragment(SYMBOLS), clean(tf.constant(ids, tf.int32)), 5):
        audit(example)
        assert (example.ids.tolist(), example.outputs.tolist()) == (ids, [])


def test_a_single_token_is_the_fragment():
    corrupt = masked_fragment(SYMBOLS, random_prob=0, keep_prob=0)
    for example in draw_many(corrupt, clean(tf.constant([1, 10, 2])), 5):
        assert (example.ids.tolist(), example.outputs.tolist()) == ([1, 4, 2], [10])


def test_the_fragment_is_contiguous_in_permuted_text():
    corrupt = chain([sentence_permutation(SYMBOLS), masked_fragment(SYMBOLS, keep_prob=0)])
    for example in draw_many(corrupt, text_of(4, 3, 5), 60):
        audit(example)
        fragment = np.flatnonzero(example.op != Op.KEEP)
        np.testing.assert_array_equal(fragment, fragment[0] + np.arange(6))
        np.testing.assert_array_equal(example.output_source, example.source[fragment])
        np.testing.assert_array_equal(example.outputs, example.targets[example.output_source - 1])


def test_earlier_noise_is_left_alone():
    corrupt = chain([text_infilling(SYMBOLS, mask_prob=0.2), masked_fragment(SYMBOLS, keep_prob=0)])
    for example in draw_many(corrupt, text_of(50), 20):
        audit(example)
        assert len(example.outputs) == 20
        assert np.sum(example.target_noise == TargetNoise.COVERED) == 10 + 20


def test_schedules_are_evaluated_at_each_examples_step():
    steps = tf.constant([0, 500, 1000], tf.int64)
    texts = tf.RaggedTensor.from_row_lengths(tf.tile(tf.range(10, 110), [3]), [100] * 3)
    up, down = Linear(0.0, 1.0, steps=1000), Linear(1.0, 0.0, steps=1000)
    corrupt = masked_fragment(SYMBOLS, mask_prob=Linear(0.1, 0.5, steps=1000), random_prob=up, keep_prob=down)
    examples = examples_of(corrupt(clean(texts, steps=steps), tf.range(3, dtype=tf.int64)))
    assert [len(example.outputs) for example in examples] == [10, 30, 50]
    ops = [set(example.op[example.output_source - 1].tolist()) for example in examples]
    assert ops == [{Op.KEEP}, {Op.KEEP, Op.RANDOM}, {Op.RANDOM}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_prob": 1.5}, r"mask_prob=1\.5"),
        ({"mask_prob": 0}, "mask_prob=0 leaves the decoder nothing"),
        ({"random_prob": -0.1}, r"random_prob=-0\.1"),
        ({"keep_prob": math.nan}, "keep_prob=nan"),
        (
            {"random_prob": 0.6, "keep_prob": 0.5},
            r"random_prob=0\.6 and keep_prob=0\.5 are shares of the same tokens",
        ),
        ({"edge_prob": 0.6}, r"edge_prob=0\.6"),
        ({"edge_prob": -0.1}, r"edge_prob=-0\.1"),
        ({"edge_prob": math.nan}, "edge_prob=nan"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(CorruptionError, match=message):
        masked_fragment(SYMBOLS, **options)
