"""Masked fragment: its length and start, what stands in its place, what is written. Seeds are fixed."""

import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise_jax.corruption.compose import chain
from denoise_jax.corruption.fragments import masked_fragment
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.rates import Linear
from denoise_jax.corruption.record import Op, TargetNoise, clean
from denoise_jax.corruption.sentence_permutation import sentence_permutation


def fragment_length(n: int, rate: str) -> int:
    """round(rate x n), halves up, at least 1, and one token stays; in exact arithmetic."""
    return min(max(math.floor(Fraction(rate) * n + Fraction(1, 2)), 1), max(n - 1, min(n, 1)))


def starts_of(rows) -> np.ndarray:
    return np.array([row.output_source[0] for row in rows])


@pytest.mark.parametrize("edge", [0.0, 0.2, 0.5])
def test_law_of_the_start(symbols, text, draw_many, chi_square, edge):
    """5 of 10: starts 1 to 6, the edges with their probability, the others alike; p above 1e-4."""
    rows = draw_many(masked_fragment(symbols, edge_prob=edge), text(10), 4000)
    counts = np.bincount(starts_of(rows), minlength=7)
    law = np.array([edge, *[(1 - 2 * edge) / 4] * 4, edge])
    assert counts.sum() == counts[1:7][law > 0].sum()
    assert chi_square(counts[1:7][law > 0], law[law > 0]) > 1e-4


def test_where_no_start_is_between_the_edges_share_the_rest(symbols, text, draw_many):
    """2 of 3: starts 1 and 2, half each; 4 standard errors (1 false alarm in 16,000)."""
    starts = starts_of(draw_many(masked_fragment(symbols), text(3), 3000))
    assert set(starts.tolist()) == {1, 2}
    assert abs(np.mean(starts == 1) - 0.5) < 4 * 0.5 / math.sqrt(3000)
    one = starts_of(draw_many(masked_fragment(symbols, edge_prob=0.0), text(1), 20))
    assert set(one.tolist()) == {1}


def test_masks_random_tokens_and_kept_ones(symbols, text, draw_many, chi_square):
    """40,000 tokens in shares 0.8, 0.1, 0.1; random ones any id of text, all alike: p above 1e-4 for both."""
    rows = draw_many(masked_fragment(symbols), text(40), 2000)
    ops = np.concatenate([row.op[row.output_source - 1] for row in rows])
    assert len(ops) == 2000 * 20
    assert chi_square([np.sum(ops == op) for op in (Op.MASK, Op.RANDOM, Op.KEEP)], [0.8, 0.1, 0.1]) > 1e-4
    drawn = np.concatenate([row.ids[row.op == Op.RANDOM] for row in rows])
    counts = np.bincount(np.searchsorted(symbols.text_ids, drawn), minlength=len(symbols.text_ids))
    assert np.isin(drawn, symbols.text_ids).all()
    assert chi_square(counts, 1 / len(symbols.text_ids)) > 1e-4


@pytest.mark.parametrize(
    ("random_prob", "keep_prob", "op"), [(0, 0, Op.MASK), (1, 0, Op.RANDOM), (0, 1, Op.KEEP)]
)
def test_shares_of_nothing_and_all(symbols, text, draw_many, audit, random_prob, keep_prob, op):
    corrupt = masked_fragment(symbols, random_prob=random_prob, keep_prob=keep_prob)
    for row in draw_many(corrupt, text(30), 40):
        audit(row)
        assert (row.op[row.output_source - 1] == op).all()
        assert len(row.outputs) == 15


@settings(max_examples=60)
@given(
    texts=st.lists(st.lists(st.sampled_from([1, 2, 3, *range(10, 40)]), max_size=30), max_size=4),
    rate=st.sampled_from(["0.15", "0.5", "1.0"]),
    seed=st.integers(-(2**31), 2**31),
)
def test_outputs_are_one_run_and_nothing_else_changes(symbols, examples, audit, texts, rate, seed):
    record = clean(tf.ragged.constant(texts, tf.int32, ragged_rank=1))
    keys = seed * 10**9 + tf.range(len(texts), dtype=tf.int64)
    for ids, row in zip(
        texts, examples(masked_fragment(symbols, mask_prob=float(rate))(record, keys)), strict=True
    ):
        audit(row)
        targets = np.array(ids, np.int32)
        text = 1 + np.flatnonzero(targets >= 10)
        assert len(row.outputs) == fragment_length(len(text), rate)
        start = np.searchsorted(text, row.output_source[0]) if len(text) else 0
        np.testing.assert_array_equal(row.output_source, text[start : start + len(row.outputs)])
        np.testing.assert_array_equal(row.outputs, targets[row.output_source - 1])
        np.testing.assert_array_equal(row.source, 1 + np.arange(len(ids)))
        changed = (row.op != Op.KEEP) | (row.ids != targets)
        assert np.isin(row.source[changed], row.output_source).all()
        np.testing.assert_array_equal(row.op != Op.KEEP, row.target_noise == TargetNoise.COVERED)
        assert (row.span == 2).all()


@pytest.mark.parametrize("ids", [[], [1], [1, 2]])
def test_texts_of_symbols_stay_as_they_are(symbols, draw_many, audit, ids):
    for row in draw_many(masked_fragment(symbols), clean(tf.constant(ids, tf.int32)), 5):
        audit(row)
        assert (row.ids.tolist(), row.outputs.tolist()) == (ids, [])


def test_one_token_is_the_fragment(symbols, draw_many):
    corrupt = masked_fragment(symbols, random_prob=0, keep_prob=0)
    for row in draw_many(corrupt, clean(tf.constant([1, 10, 2])), 5):
        assert (row.ids.tolist(), row.outputs.tolist()) == ([1, 4, 2], [10])


def test_the_run_follows_the_order_that_a_permutation_left(symbols, text, draw_many, audit):
    corrupt = chain([sentence_permutation(symbols), masked_fragment(symbols, keep_prob=0)])
    for row in draw_many(corrupt, text(4, 3, 5), 60):
        audit(row)
        run = np.flatnonzero(row.op != Op.KEEP)
        np.testing.assert_array_equal(run, run[0] + np.arange(6))
        np.testing.assert_array_equal(row.output_source, row.source[run])
        np.testing.assert_array_equal(row.outputs, row.targets[row.output_source - 1])


def test_earlier_noise_is_not_touched(symbols, text, draw_many, audit):
    corrupt = chain([text_infilling(symbols, mask_prob=0.2), masked_fragment(symbols, keep_prob=0)])
    for row in draw_many(corrupt, text(50), 20):
        audit(row)
        assert len(row.outputs) == 20
        assert np.sum(row.target_noise == TargetNoise.COVERED) == 10 + 20


def test_schedules_are_read_at_each_examples_step(symbols, examples):
    steps = tf.constant([0, 500, 1000], tf.int64)
    texts = tf.RaggedTensor.from_row_lengths(tf.tile(tf.range(10, 110), [3]), [100] * 3)
    up, down = Linear(0.0, 1.0, steps=1000), Linear(1.0, 0.0, steps=1000)
    corrupt = masked_fragment(symbols, mask_prob=Linear(0.1, 0.5, steps=1000), random_prob=up, keep_prob=down)
    rows = examples(corrupt(clean(texts, steps=steps), tf.range(3, dtype=tf.int64)))
    assert [len(row.outputs) for row in rows] == [10, 30, 50]
    ops = [set(row.op[row.output_source - 1].tolist()) for row in rows]
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
            r"random_prob=0\.6 and keep_prob=0\.5 must not be more than 1",
        ),
        ({"edge_prob": 0.6}, r"edge_prob=0\.6"),
        ({"edge_prob": -0.1}, r"edge_prob=-0\.1"),
        ({"edge_prob": math.nan}, "edge_prob=nan"),
    ],
)
def test_options_out_of_bounds_are_refused(symbols, options, message):
    with pytest.raises(CorruptionError, match=message):
        masked_fragment(symbols, **options)
