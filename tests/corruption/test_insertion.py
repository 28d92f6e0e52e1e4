"""Token insertion: exact, every pattern alike, never outside the ends of a text. Seeds are fixed."""

import collections
import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from denoise_jax.corruption.deletion import token_deletion
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.insertion import token_insertion
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.rates import Linear
from denoise_jax.corruption.record import Op, TargetNoise, clean

TEXTS = st.lists(st.lists(st.sampled_from([1, 2, 3, *range(10, 61)]), max_size=12), max_size=4)


@given(texts=TEXTS, seed=st.integers(0, 2**62), share=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_any_window(symbols, examples, audit, texts, seed, share):
    """Without the ceil(share x tokens) insertions the text is there as it was, and they stand inside it."""
    window = clean(tf.ragged.constant(texts, tf.int32, ragged_rank=1))
    corruption = token_insertion(symbols, insert_prob=share, mask_random=0.5)
    for ids, row in zip(
        texts, examples(corruption(window, tf.range(len(texts), dtype=tf.int64) + seed)), strict=True
    ):
        ids = np.asarray(ids, np.int32)
        audit(row)
        new = row.op == Op.INSERT
        assert new.sum() == math.ceil(share * np.sum(ids >= 10))
        np.testing.assert_array_equal(row.ids[~new], ids)
        np.testing.assert_array_equal(row.source[~new], np.arange(1, len(ids) + 1))
        assert (row.target_noise == TargetNoise.VISIBLE).all()
        assert np.isin(row.ids[new], (symbols.mask_token, *symbols.text_ids)).all()
        if new.any():
            inside = np.flatnonzero(np.isin(row.ids, symbols.text_ids) | new)
            # Before the first and after the last token or insertion there is nothing but symbols.
            assert inside[0] == np.argmax(ids >= 10)
            assert len(new) - 1 - inside[-1] == np.argmax(ids[::-1] >= 10)


@pytest.mark.parametrize(("tokens", "share"), [(1, 1.0), (3, 0.4), (4, 0.5), (3, 1.0)])
def test_every_pattern_is_as_likely(symbols, draw_many, chi_square, tokens, share):
    """C(n + m, m) patterns of m new among n old tokens: p above 1e-4, the false-alarm rate."""
    noised = clean(tf.constant([1, 3, *range(10, 10 + tokens), 2]))
    new = math.ceil(share * tokens)
    patterns = collections.Counter()
    for row in draw_many(token_insertion(symbols, insert_prob=share), noised, 4000):
        assert (row.ids[0], row.ids[1], row.ids[-1]) == (1, 3, 2)
        patterns[tuple(np.flatnonzero(row.op == Op.INSERT) - 2)] += 1
    counts = [patterns[pattern] for pattern in itertools.combinations(range(tokens + new), new)]
    assert sum(counts) == 4000
    assert chi_square(counts, 1 / len(counts)) > 1e-4


def test_sources_are_those_of_the_tokens_behind(symbols, text, draw_many):
    for row in draw_many(token_insertion(symbols, insert_prob=1.0), text(6), 50):
        behind = [*row.source[row.op == Op.KEEP], 7]
        passed = np.cumsum(row.op == Op.KEEP)
        new = row.op == Op.INSERT
        np.testing.assert_array_equal(row.source[new], np.asarray(behind)[passed[new]])


def test_the_share_of_random_tokens_is_binomial(symbols, text, draw_many):
    """Mean and variance of 4 insertions at .1; 4 standard errors, a false alarm in 8,000 runs."""
    rows = draw_many(token_insertion(symbols, insert_prob=0.2), text(20), 4000)
    inserted = np.stack([row.ids[row.op == Op.INSERT] for row in rows])
    assert inserted.shape == (4000, 4)
    random = np.sum(inserted != symbols.mask_token, 1)
    assert abs(random.mean() - 0.4) < 4 * math.sqrt(0.36 / 4000)
    # Fourth central moment of the binomial: variance (1 + 3 (n - 2) variance / n), here .36 x 1.54.
    assert abs(random.var() - 0.36) < 4 * math.sqrt((0.36 * 1.54 - 0.36**2) / 4000)


def test_a_single_insertion_may_be_either(symbols, text, draw_many):
    """fairseq rounds up, so that a single one is random always. 5 standard errors: 1 in a million."""
    rows = draw_many(token_insertion(symbols, insert_prob=0.1), text(5), 2000)
    random = [row.ids[row.op == Op.INSERT][0] != symbols.mask_token for row in rows]
    assert abs(np.mean(random) - 0.1) < 5 * math.sqrt(0.09 / 2000)


def test_what_is_inserted_does_not_hang_on_where(symbols, text, draw_many, chi_square):
    """Before or after, mask or random, are four outcomes of 1/4: p above 1e-4, the false-alarm rate."""
    rows = draw_many(token_insertion(symbols, insert_prob=1.0, mask_random=0.5), text(1), 2000)
    new = [int(row.op[1] == Op.INSERT) for row in rows]
    outcomes = [2 * at + int(row.ids[at] == symbols.mask_token) for row, at in zip(rows, new, strict=True)]
    assert chi_square(np.bincount(outcomes, minlength=4), 1 / 4) > 1e-4


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_masks_or_all_random(symbols, text, draw_many, chi_square, share):
    """Random ids are uniform over the text's 16 blocks of ids: p above 1e-4, the false-alarm rate."""
    rows = draw_many(token_insertion(symbols, insert_prob=1.0, mask_random=share), text(10), 400)
    ids = np.concatenate([row.ids[row.op == Op.INSERT] for row in rows])
    if share == 0:
        assert (ids == symbols.mask_token).all()
    else:
        place = np.searchsorted(symbols.text_ids, ids)
        np.testing.assert_array_equal(symbols.text_ids[place], ids)
        blocks = [len(block) for block in np.array_split(symbols.text_ids, 16)]
        counts = np.histogram(place, np.cumsum([0, *blocks]) - 0.5)[0]
        assert chi_square(counts, np.asarray(blocks) / sum(blocks)) > 1e-4


@pytest.mark.parametrize(
    ("rounding", "new"), [("ceil", {4}), ("floor", {3}), ("round", {4}), ("stochastic", {3, 4})]
)
def test_roundings(symbols, draw_many, rounding, new):
    """0.35 x 10 = 3.5 of the 10 tokens of text, whatever protected symbols stand around them."""
    noised = clean(tf.constant([1, *range(10, 15), 3, *range(15, 20), 2]))
    rows = draw_many(token_insertion(symbols, insert_prob=0.35, rounding=rounding), noised, 100)
    assert {len(row.ids) - 13 for row in rows} == new


def test_at_an_inner_symbol_new_tokens_stand_behind_it(symbols, draw_many):
    noised = clean(tf.constant([1, 10, 3, 11, 2]))
    seen = {
        tuple(row.ids.tolist())
        for row in draw_many(token_insertion(symbols, insert_prob=0.5, mask_random=0.0), noised, 50)
    }
    assert seen == {(1, 4, 10, 3, 11, 2), (1, 10, 3, 4, 11, 2), (1, 10, 3, 11, 4, 2)}


def test_masks_of_earlier_noise_are_neighbours_too(symbols, text, examples, audit):
    """Where half the text is hidden new tokens are as many as half the visible ones, around masks as well."""
    keys = tf.range(200, dtype=tf.int64)
    window = clean(tf.RaggedTensor.from_row_lengths(tf.tile(text(8).targets, [200]), [8] * 200))
    masked = text_infilling(symbols, mask_prob=0.5, span_length="constant", mean_span_length=4)(window, keys)
    beside = set()
    for row in examples(token_insertion(symbols, insert_prob=0.5)(masked, keys)):
        audit(row)
        new = row.op == Op.INSERT
        assert new.sum() == 2
        beside |= {(row.op[at - 1], row.op[at]) for at in np.flatnonzero(new) if at}
        beside |= {(row.op[at], row.op[at + 1]) for at in np.flatnonzero(new) if at + 1 < len(new)}
    assert {(Op.MASK, Op.INSERT), (Op.INSERT, Op.MASK), (Op.KEEP, Op.INSERT), (Op.INSERT, Op.KEEP)} <= beside


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("ids", [[], [1, 2], [3], [10], [1, 10, 2]])
def test_edges(symbols, draw_many, audit, ids, share):
    noised = clean(tf.constant(ids, tf.int32))
    for row in draw_many(token_insertion(symbols, insert_prob=share), noised, 3):
        audit(row)
        assert len(row.ids) == len(ids) + share * sum(token >= 10 for token in ids)


def test_text_that_earlier_noise_left_is_what_counts(symbols, text, examples, audit):
    """10 of 20 tokens are deleted; half of the 10 left is 5."""
    keys = tf.range(1, dtype=tf.int64)
    deleted = token_deletion(symbols, deletion_prob=0.5)(text(20), keys)
    (row,) = examples(token_insertion(symbols, insert_prob=0.5)(deleted, keys))
    audit(row)
    assert len(row.ids) == 15


def test_schedules_go_by_each_examples_step(symbols, examples):
    texts = tf.RaggedTensor.from_row_lengths(tf.tile(tf.range(10, 30), [3]), [20] * 3)
    window = clean(texts, steps=tf.constant([0, 50, 100], tf.int64))
    ramp = Linear(0.0, 1.0, steps=100)
    rows = examples(
        token_insertion(symbols, insert_prob=ramp, mask_random=ramp)(window, tf.range(3, dtype=tf.int64))
    )
    assert [len(row.ids) for row in rows] == [20, 30, 40]
    masks = [np.sum(row.ids == symbols.mask_token) for row in rows]
    assert 0 < masks[1] < 10
    assert masks[2] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"insert_prob": 1.5}, "insert_prob=1.5 must lie between 0 and 1"),
        ({"mask_random": -0.5}, "mask_random=-0.5 must lie between 0 and 1"),
        ({"rounding": "up"}, "rounding='up' .* choose one of ceil"),
    ],
)
def test_bad_options_are_refused(symbols, options, message):
    with pytest.raises(CorruptionError, match=message):
        token_insertion(symbols, **options)
