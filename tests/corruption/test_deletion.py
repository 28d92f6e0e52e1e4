"""Token deletion: an exact or binomial number of tokens, never all of them. Seeds are fixed. False-alarm
rates say how unlikely a failure by chance is after a change of the noise."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption.deletion import token_deletion
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.rates import Linear
from denoise_jax.corruption.record import Op, TargetNoise, clean
from denoise_jax.corruption.symbols import Symbols
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

TEXTS = random_texts((1, 2, 3), range(10, 61))


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5, 1.0])
@pytest.mark.parametrize("selection", ["exact", "bernoulli"])
@pytest.mark.parametrize("whole_word", [False, True])
def test_what_is_left_is_the_text_without_the_deleted_tokens(share, selection, whole_word):
    """Special tokens are kept, and so is at least one token of any text."""
    corruption = token_deletion(SYMBOLS, deletion_prob=share, selection=selection, whole_word=whole_word)
    noised = corruption(batch_of(TEXTS), keys_of(len(TEXTS)))
    for ids, example in zip(TEXTS, examples_of(noised), strict=True):
        ids = np.asarray(ids, np.int32)
        audit(example)
        eligible = ids >= 10
        deleted = example.target_noise == TargetNoise.DELETED
        assert not deleted[~eligible].any()
        np.testing.assert_array_equal(example.ids, ids[~deleted])
        np.testing.assert_array_equal(example.source, 1 + np.flatnonzero(~deleted))
        assert (example.op == Op.KEEP).all()
        assert not eligible.any() or not deleted[eligible].all()
        if selection == "exact" and not whole_word and eligible.any():
            assert deleted.sum() == min(math.ceil(share * eligible.sum()), eligible.sum() - 1)


def test_all_subsets_are_equally_likely():
    """The 10 pairs of 5 tokens: p > 1e-4."""
    noised = clean(tf.constant([1, 10, 11, 3, 12, 13, 14, 2]))
    examples = draw_many(token_deletion(SYMBOLS, deletion_prob=0.4), noised, 4000)
    deleted = [
        tuple(example.targets[example.target_noise == TargetNoise.DELETED].tolist()) for example in examples
    ]
    counts = [deleted.count(pair) for pair in itertools.combinations(range(10, 15), 2)]
    assert sum(counts) == 4000
    assert chi_square(counts, 0.1) > 1e-4


def test_bernoulli_deletions_are_binomial():
    """Mean n p and variance n p (1 - p) within 4 standard errors (1 false alarm in 8,000)."""
    corruption = token_deletion(SYMBOLS, deletion_prob=0.15, selection="bernoulli")
    counts = np.asarray([20 - len(example.ids) for example in draw_many(corruption, text_of(20), 4000)])
    variance = 20 * 0.15 * 0.85
    assert abs(counts.mean() - 3) < 4 * math.sqrt(variance / 4000)
    assert abs(counts.var() / variance - 1) < 4 * math.sqrt(2 / 4000)


@pytest.mark.parametrize("selection", ["exact", "bernoulli"])
def test_a_random_token_is_kept_if_all_would_be_deleted(selection):
    """Each of 5 tokens equally often: p > 1e-4."""
    noised = clean(tf.constant([1, 10, 11, 12, 13, 14, 2]))
    examples = draw_many(token_deletion(SYMBOLS, deletion_prob=1.0, selection=selection), noised, 3000)
    assert all(len(example.ids) == 3 for example in examples)
    assert chi_square(np.bincount([example.ids[1] - 10 for example in examples], minlength=5), 0.2) > 1e-4


def test_whole_words_are_deleted():
    """Ids divisible by 3 continue a word: 10, 11 12, 13 and 14 15 are four words, of which one is kept."""
    noised = clean(tf.constant([1, *range(10, 16), 2]))
    left = set()
    for example in draw_many(token_deletion(SYMBOLS, deletion_prob=1.0, whole_word=True), noised, 100):
        audit(example)
        left.add(tuple(example.ids[1:-1].tolist()))
    assert left == {(10,), (11, 12), (13,), (14, 15)}


@pytest.mark.parametrize(
    ("rounding", "deleted"), [("ceil", {4}), ("floor", {3}), ("round", {4}), ("stochastic", {3, 4})]
)
def test_roundings(rounding, deleted):
    """0.35 x 10 = 3.5 of the 10 tokens of text, regardless of the protected tokens around them."""
    noised = clean(tf.constant([1, *range(10, 15), 3, *range(15, 20), 2]))
    examples = draw_many(token_deletion(SYMBOLS, deletion_prob=0.35, rounding=rounding), noised, 100)
    assert {13 - len(example.ids) for example in examples} == deleted


@pytest.mark.parametrize("selection", ["exact", "bernoulli"])
@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("ids", [[], [10], [1, 2], [1, 10, 2]])
def test_texts_of_at_most_one_token_are_unchanged(ids, share, selection):
    noised = clean(tf.constant(ids, tf.int32))
    for example in draw_many(token_deletion(SYMBOLS, deletion_prob=share, selection=selection), noised, 3):
        audit(example)
        np.testing.assert_array_equal(example.ids, ids)
        assert (example.target_noise == TargetNoise.VISIBLE).all()


def test_rate_0_changes_nothing():
    for example in draw_many(token_deletion(SYMBOLS, deletion_prob=0.0), text_of(20), 3):
        np.testing.assert_array_equal(example.ids, example.targets)


def test_masks_of_earlier_noise_are_kept():
    keys = tf.range(20, dtype=tf.int64)
    batch = clean(tf.RaggedTensor.from_row_lengths(tf.tile(text_of(12).targets, [20]), [12] * 20))
    masked = text_infilling(SYMBOLS, mask_prob=0.5)(batch, keys)
    deleted = token_deletion(SYMBOLS, deletion_prob=0.5)(masked, keys)
    for before, example in zip(examples_of(masked), examples_of(deleted), strict=True):
        audit(example)
        assert np.sum(example.op == Op.MASK) == np.sum(before.op == Op.MASK)
        assert np.sum(example.target_noise == TargetNoise.COVERED) == 6
        assert np.sum(example.target_noise == TargetNoise.DELETED) == 3


def test_a_schedule_is_evaluated_at_each_examples_step():
    texts = tf.RaggedTensor.from_row_lengths(tf.tile(tf.range(10, 30), [3]), [20] * 3)
    batch = clean(texts, steps=tf.constant([0, 50, 100], tf.int64))
    corruption = token_deletion(SYMBOLS, deletion_prob=Linear(0.0, 0.5, steps=100))
    assert [len(example.ids) for example in examples_of(corruption(batch, tf.range(3, dtype=tf.int64)))] == [
        20,
        15,
        10,
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deletion_prob": 1.5}, "deletion_prob=1.5 must lie between 0 and 1"),
        ({"selection": "some"}, "selection='some' .* choose one of exact, bernoulli"),
        ({"rounding": "up"}, "rounding='up' .* choose one of ceil"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(CorruptionError, match=message):
        token_deletion(SYMBOLS, **options)


def test_words_require_word_starts():
    with pytest.raises(CorruptionError, match="give word_starts"):
        token_deletion(Symbols(mask_token=4, vocab_size=16), whole_word=True)
