"""Masking and replacement: exact shares, independent choices, random tokens of text only. Seeds are fixed.
False-alarm rates say how unlikely a failure by chance is after a change of the noise."""

import math

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption.masking import token_masking, token_replacement
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
SMALL = Symbols(mask_token=4, vocab_size=16, protected=(0, 1, 2, 3, 9))
BOTH = [token_masking, token_replacement]
SHARE = {token_masking: "mask_prob", token_replacement: "replace_prob"}


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5, 1.0])
def test_an_exact_share_of_the_text_changes_in_place(share):
    """Exactly ceil(share x tokens) of each example, and no token moves."""
    masked, replaced = (
        corruption(batch_of(TEXTS), keys_of(len(TEXTS)))
        for corruption in (
            token_masking(SYMBOLS, mask_prob=share, keep_prob=0.0),
            token_replacement(SYMBOLS, replace_prob=share, source="text"),
        )
    )
    for ids, *examples in zip(TEXTS, examples_of(masked), examples_of(replaced), strict=True):
        ids = np.asarray(ids, np.int32)
        eligible = ids >= 10
        for example in examples:
            audit(example)
            np.testing.assert_array_equal(example.source, np.arange(1, len(ids) + 1))
            hidden = example.op != Op.KEEP
            assert hidden.sum() == math.ceil(share * eligible.sum())
            assert not hidden[~eligible].any()
            np.testing.assert_array_equal(example.target_noise == TargetNoise.COVERED, hidden)
            np.testing.assert_array_equal(example.ids[~hidden], ids[~hidden])
            np.testing.assert_array_equal(example.span, 2)
        assert (examples[1].op[hidden] == Op.RANDOM).all()
        assert np.isin(examples[1].ids[hidden], ids[eligible]).all()


def test_shares_of_masks_random_tokens_and_kept_tokens():
    """Of 40,000 chosen tokens 0.8 are masks, 0.1 random and 0.1 kept: p > 1e-4."""
    examples = draw_many(token_masking(SYMBOLS, mask_prob=1.0), text_of(20), 2000)
    op = np.stack([example.op for example in examples])
    counts = [np.sum(op == kind) for kind in (Op.MASK, Op.RANDOM, Op.KEEP)]
    assert chi_square(counts, [0.8, 0.1, 0.1]) > 1e-4
    # Independent: the number of random tokens in a text of 20 has the binomial variance 1.8. Its estimate
    # from 2000 texts has a relative standard error of about .033; 4 of these have 6 false alarms in 100,000.
    assert abs(np.var(np.sum(op == Op.RANDOM, 1)) / 1.8 - 1) < 4 * 0.033


def test_kept_tokens_are_visible():
    for example in draw_many(
        token_masking(SYMBOLS, mask_prob=1.0, random_prob=0.0, keep_prob=0.5), text_of(30), 50
    ):
        audit(example)
        kept = example.op == Op.KEEP
        assert 0 < kept.sum() < 30
        np.testing.assert_array_equal(example.target_noise == TargetNoise.VISIBLE, kept)
        assert (example.ids[~kept] == SYMBOLS.mask_token).all()


def test_random_ids_are_uniform_over_text():
    """The 10 ids of text are equally likely, and no others occur: p > 1e-4 for each corruption."""
    noised = clean(tf.range(5, 9))
    mask = token_masking(SMALL, mask_prob=1.0, random_prob=1.0, keep_prob=0.0)
    for corruption in (mask, token_replacement(SMALL, replace_prob=1.0)):
        ids = np.concatenate([example.ids for example in draw_many(corruption, noised, 5000)])
        counts = np.bincount(ids, minlength=16)
        allowed = [5, 6, 7, 8, 10, 11, 12, 13, 14, 15]
        assert counts[allowed].sum() == len(ids)
        assert chi_square(counts[allowed], 0.1) > 1e-4


def test_random_ids_from_the_text_follow_its_frequencies():
    """2 of 4 tokens are id 20, which is drawn half of the time, and protected ids never are; p > 1e-4."""
    noised = clean(tf.constant([1, 20, 30, 3, 20, 40, 2]))
    examples = draw_many(token_replacement(SYMBOLS, replace_prob=1.0, source="text"), noised, 3000)
    ids = np.concatenate([example.ids[[1, 2, 4, 5]] for example in examples])
    assert chi_square([np.sum(ids == one) for one in (20, 30, 40)], [0.5, 0.25, 0.25]) > 1e-4
    assert np.isin(ids, (20, 30, 40)).all()


@pytest.mark.parametrize("build", BOTH)
def test_all_positions_are_equally_likely(build):
    """|z| of each of 8 positions below 4.5 (1 false alarm in 20,000)."""
    noised = clean(tf.constant([1, 10, 11, 12, 13, 3, 14, 15, 16, 17, 2]))
    options = {"keep_prob": 0.0} if build is token_masking else {}
    examples = draw_many(build(SYMBOLS, **{SHARE[build]: 0.3}, **options), noised, 4000)
    hidden = np.stack([example.op != Op.KEEP for example in examples])
    assert (hidden.sum(1) == 3).all()
    rates = hidden.mean(0)
    assert not rates[[0, 5, 10]].any()
    assert (abs(rates[[1, 2, 3, 4, 6, 7, 8, 9]] - 3 / 8) < 4.5 * math.sqrt(3 / 8 * 5 / 8 / 4000)).all()


@pytest.mark.parametrize("build", BOTH)
def test_bernoulli_choices_are_binomial(build):
    """Mean n p and variance n p (1 - p) within 4 standard errors (1 false alarm in 8,000)."""
    options = {"keep_prob": 0.0} if build is token_masking else {}
    corruption = build(SYMBOLS, **{SHARE[build]: 0.15}, selection="bernoulli", **options)
    counts = np.asarray(
        [np.sum(example.op != Op.KEEP) for example in draw_many(corruption, text_of(20), 4000)]
    )
    variance = 20 * 0.15 * 0.85
    assert abs(counts.mean() - 3) < 4 * math.sqrt(variance / 4000)
    assert abs(counts.var() / variance - 1) < 4 * math.sqrt(2 / 4000)


@pytest.mark.parametrize(
    ("rounding", "hidden"), [("ceil", {4}), ("floor", {3}), ("round", {4}), ("stochastic", {3, 4})]
)
def test_roundings(rounding, hidden):
    """0.35 x 10 = 3.5 of the 10 tokens of text, regardless of the protected tokens around them."""
    noised = clean(tf.constant([1, *range(10, 15), 3, *range(15, 20), 2]))
    corruption = token_masking(SYMBOLS, mask_prob=0.35, keep_prob=0.0, rounding=rounding)
    counts = [np.sum(example.op != Op.KEEP) for example in draw_many(corruption, noised, 200)]
    assert set(counts) == hidden
    if rounding == "stochastic":  # mean 3.5, within 4 standard errors of .5 / sqrt(200)
        assert abs(np.mean(counts) - 3.5) < 4 * 0.5 / math.sqrt(200)


@pytest.mark.parametrize("build", BOTH)
def test_whole_words_are_chosen(build):
    """Ids divisible by 3 continue a word: 10, 11 12, 13, 14 15, 16 and 18, after a special token, are six
    words. All 20 subsets of three words occur in 300 draws but for 4 false alarms in a million."""
    words = [[1], [2, 3], [4], [5, 6], [7], [9]]
    noised = clean(tf.constant([1, 10, 11, 12, 13, 14, 15, 16, 3, 18, 2]))
    options = {"keep_prob": 0.0} if build is token_masking else {}
    seen = set()
    for example in draw_many(build(SYMBOLS, **{SHARE[build]: 0.5}, whole_word=True, **options), noised, 300):
        audit(example)
        hidden = example.op != Op.KEEP
        flags = [set(hidden[word].tolist()) for word in words]
        assert all(len(flag) == 1 for flag in flags)
        assert flags.count({True}) == 3
        assert hidden.sum() == sum(
            len(word) for word, flag in zip(words, flags, strict=True) if flag == {True}
        )
        seen.add(tuple(flag == {True} for flag in flags))
    assert len(seen) == 20


@pytest.mark.parametrize("build", BOTH)
@pytest.mark.parametrize("ids", [[], [10], [10, 11, 12], [1, 2], [1, 10, 2]])
def test_short_texts_and_extreme_rates(build, ids):
    """Rate 0 changes nothing and rate 1 all text; protected tokens are unchanged."""
    noised = clean(tf.constant(ids, tf.int32))
    options = {"keep_prob": 0.0} if build is token_masking else {}
    for example in draw_many(build(SYMBOLS, **{SHARE[build]: 0.0}), noised, 3):
        for field, before in zip(example[:4], noised[:4], strict=True):
            np.testing.assert_array_equal(field, before)
        assert (example.target_noise == TargetNoise.VISIBLE).all()
    for example in draw_many(build(SYMBOLS, **{SHARE[build]: 1.0}, **options), noised, 3):
        audit(example)
        np.testing.assert_array_equal(example.op != Op.KEEP, np.asarray(ids) >= 10)


def test_earlier_noise_is_left_alone():
    keys = tf.range(1, dtype=tf.int64)
    first = token_masking(SYMBOLS, mask_prob=0.5, keep_prob=0.0)(text_of(20), keys)
    (before,) = examples_of(first)
    (after,) = examples_of(token_replacement(SYMBOLS, replace_prob=1.0)(first, keys))
    audit(after)
    written = before.op != Op.KEEP
    np.testing.assert_array_equal(after.ids[written], before.ids[written])
    assert (after.op[~written] == Op.RANDOM).all()


def test_schedules_are_evaluated_at_each_examples_step():
    """None at step 0, half at step 50 and all from step 100 on, in one batch; the same for random_prob."""
    steps = tf.constant([0, 50, 100, 10**6], tf.int64)
    texts = tf.RaggedTensor.from_row_lengths(tf.tile(tf.range(10, 30), [4]), [20] * 4)
    batch, keys = clean(texts, steps=steps), tf.range(4, dtype=tf.int64)
    ramp = Linear(0.0, 1.0, steps=100)
    masked = examples_of(token_masking(SYMBOLS, mask_prob=ramp, keep_prob=0.0)(batch, keys))
    assert [np.sum(example.op != Op.KEEP) for example in masked] == [0, 10, 20, 20]
    random = token_masking(SYMBOLS, mask_prob=1.0, random_prob=ramp, keep_prob=ramp)(batch, keys)
    none, half, *every = (
        [np.sum(example.op == kind) for kind in (Op.MASK, Op.RANDOM, Op.KEEP)]
        for example in examples_of(random)
    )
    assert none == [20, 0, 0]
    assert half[0] == 0
    assert every == [[0, 20, 0]] * 2  # their sum is above 1, so keep_prob is reduced


def test_options_do_not_affect_each_others_draws():
    """Which tokens are chosen, and which of them become random, is independent of the other options."""
    plain = draw_many(token_masking(SYMBOLS, mask_prob=0.5, random_prob=0.0, keep_prob=0.0), text_of(20), 20)
    other = draw_many(token_masking(SYMBOLS, mask_prob=0.5, random_prob=0.3, keep_prob=0.0), text_of(20), 20)
    third = draw_many(token_masking(SYMBOLS, mask_prob=0.5, random_prob=0.3, keep_prob=0.3), text_of(20), 20)
    for example, with_random, with_kept in zip(plain, other, third, strict=True):
        np.testing.assert_array_equal(example.target_noise, with_random.target_noise)
        np.testing.assert_array_equal(with_random.op == Op.RANDOM, with_kept.op == Op.RANDOM)


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (token_masking, {"mask_prob": 1.5}, "mask_prob=1.5 must lie between 0 and 1"),
        (token_masking, {"random_prob": -0.1}, "random_prob=-0.1 must lie between 0 and 1"),
        (token_masking, {"keep_prob": 2}, "keep_prob=2 must lie between 0 and 1"),
        (
            token_masking,
            {"random_prob": 0.6, "keep_prob": 0.5},
            "random_prob=0.6 and keep_prob=0.5 .* not exceed 1",
        ),
        (token_masking, {"selection": "all"}, "selection='all' .* choose one of exact, bernoulli"),
        (token_masking, {"rounding": "up"}, "rounding='up' .* choose one of ceil"),
        (token_replacement, {"replace_prob": -1}, "replace_prob=-1 must lie between 0 and 1"),
        (token_replacement, {"source": "corpus"}, "source='corpus' .* choose one of vocabulary, text"),
        (token_replacement, {"selection": ""}, "selection='' .* choose one of exact, bernoulli"),
        (token_replacement, {"rounding": "up"}, "rounding='up' .* choose one of ceil"),
    ],
)
def test_invalid_options_are_refused(build, options, message):
    with pytest.raises(CorruptionError, match=message):
        build(SYMBOLS, **options)


@pytest.mark.parametrize("build", BOTH)
def test_words_require_word_starts(build):
    with pytest.raises(CorruptionError, match="give word_starts"):
        build(SMALL, whole_word=True)
