"""Token insertion: exact, uniform, and within the text. Seeds are fixed. False-alarm rates say how unlikely a
failure by chance is after a change of the noise."""

import collections
import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption.deletion import token_deletion
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.insertion import token_insertion
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.rates import Linear
from denoise_jax.corruption.record import Op, TargetNoise, clean
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


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_an_exact_share_is_inserted_inside_the_text(share):
    """ceil(share x tokens) insertions; without them the text is unchanged."""
    noised = token_insertion(SYMBOLS, insert_prob=share, mask_random=0.5)(
        batch_of(TEXTS), keys_of(len(TEXTS))
    )
    for ids, example in zip(TEXTS, examples_of(noised), strict=True):
        ids = np.asarray(ids, np.int32)
        audit(example)
        new = example.op == Op.INSERT
        assert new.sum() == math.ceil(share * np.sum(ids >= 10))
        np.testing.assert_array_equal(example.ids[~new], ids)
        np.testing.assert_array_equal(example.source[~new], np.arange(1, len(ids) + 1))
        assert (example.target_noise == TargetNoise.VISIBLE).all()
        assert np.isin(example.ids[new], (SYMBOLS.mask_token, *SYMBOLS.text_ids)).all()
        if new.any():
            inside = np.flatnonzero(np.isin(example.ids, SYMBOLS.text_ids) | new)
            # There are only special tokens before the first and after the last token or insertion.
            assert inside[0] == np.argmax(ids >= 10)
            assert len(new) - 1 - inside[-1] == np.argmax(ids[::-1] >= 10)


@pytest.mark.parametrize(("tokens", "share"), [(1, 1.0), (3, 0.4), (4, 0.5), (3, 1.0)])
def test_all_arrangements_are_equally_likely(tokens, share):
    """The C(n + m, m) arrangements of m insertions among n tokens: p > 1e-4."""
    noised = clean(tf.constant([1, 3, *range(10, 10 + tokens), 2]))
    new = math.ceil(share * tokens)
    patterns = collections.Counter()
    for example in draw_many(token_insertion(SYMBOLS, insert_prob=share), noised, 4000):
        assert (example.ids[0], example.ids[1], example.ids[-1]) == (1, 3, 2)
        patterns[tuple(np.flatnonzero(example.op == Op.INSERT) - 2)] += 1
    counts = [patterns[pattern] for pattern in itertools.combinations(range(tokens + new), new)]
    assert sum(counts) == 4000
    assert chi_square(counts, 1 / len(counts)) > 1e-4


def test_the_source_of_an_insertion_is_the_next_token():
    for example in draw_many(token_insertion(SYMBOLS, insert_prob=1.0), text_of(6), 50):
        following = [*example.source[example.op == Op.KEEP], 7]
        passed = np.cumsum(example.op == Op.KEEP)
        new = example.op == Op.INSERT
        np.testing.assert_array_equal(example.source[new], np.asarray(following)[passed[new]])


def test_the_number_of_random_tokens_is_binomial():
    """Mean and variance for 4 insertions at 0.1; 4 standard errors (1 false alarm in 8,000)."""
    examples = draw_many(token_insertion(SYMBOLS, insert_prob=0.2), text_of(20), 4000)
    inserted = np.stack([example.ids[example.op == Op.INSERT] for example in examples])
    assert inserted.shape == (4000, 4)
    random = np.sum(inserted != SYMBOLS.mask_token, 1)
    assert abs(random.mean() - 0.4) < 4 * math.sqrt(0.36 / 4000)
    # Fourth central moment of the binomial: variance (1 + 3 (n - 2) variance / n), here .36 x 1.54.
    assert abs(random.var() - 0.36) < 4 * math.sqrt((0.36 * 1.54 - 0.36**2) / 4000)


def test_a_single_insertion_may_be_a_mask_or_random():
    """fairseq rounds up and always inserts a random token. 5 standard errors (1 false alarm in a million)."""
    examples = draw_many(token_insertion(SYMBOLS, insert_prob=0.1), text_of(5), 2000)
    random = [example.ids[example.op == Op.INSERT][0] != SYMBOLS.mask_token for example in examples]
    assert abs(np.mean(random) - 0.1) < 5 * math.sqrt(0.09 / 2000)


def test_what_is_inserted_is_independent_of_the_position():
    """Before or after the token, mask or random: four outcomes of probability 1/4; p > 1e-4."""
    examples = draw_many(token_insertion(SYMBOLS, insert_prob=1.0, mask_random=0.5), text_of(1), 2000)
    new = [int(example.op[1] == Op.INSERT) for example in examples]
    outcomes = [
        2 * at + int(example.ids[at] == SYMBOLS.mask_token) for example, at in zip(examples, new, strict=True)
    ]
    assert chi_square(np.bincount(outcomes, minlength=4), 1 / 4) > 1e-4


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_masks_or_all_random(share):
    """Random ids are uniform over 16 blocks of ids of text: p > 1e-4."""
    examples = draw_many(token_insertion(SYMBOLS, insert_prob=1.0, mask_random=share), text_of(10), 400)
    ids = np.concatenate([example.ids[example.op == Op.INSERT] for example in examples])
    if share == 0:
        assert (ids == SYMBOLS.mask_token).all()
    else:
        index = np.searchsorted(SYMBOLS.text_ids, ids)
        np.testing.assert_array_equal(SYMBOLS.text_ids[index], ids)
        blocks = [len(block) for block in np.array_split(SYMBOLS.text_ids, 16)]
        counts = np.histogram(index, np.cumsum([0, *blocks]) - 0.5)[0]
        assert chi_square(counts, np.asarray(blocks) / sum(blocks)) > 1e-4


@pytest.mark.parametrize(
    ("rounding", "new"), [("ceil", {4}), ("floor", {3}), ("round", {4}), ("stochastic", {3, 4})]
)
def test_roundings(rounding, new):
    """0.35 x 10 = 3.5 of the 10 tokens of text, regardless of the protected tokens around them."""
    noised = clean(tf.constant([1, *range(10, 15), 3, *range(15, 20), 2]))
    examples = draw_many(token_insertion(SYMBOLS, insert_prob=0.35, rounding=rounding), noised, 100)
    assert {len(example.ids) - 13 for example in examples} == new


def test_insertions_go_after_a_special_token_inside_the_text():
    noised = clean(tf.constant([1, 10, 3, 11, 2]))
    seen = {
        tuple(example.ids.tolist())
        for example in draw_many(token_insertion(SYMBOLS, insert_prob=0.5, mask_random=0.0), noised, 50)
    }
    assert seen == {(1, 4, 10, 3, 11, 2), (1, 10, 3, 4, 11, 2), (1, 10, 3, 11, 4, 2)}


def test_insertions_also_go_next_to_masks_of_earlier_noise():
    """Half as many insertions as visible tokens, also around masks."""
    keys = tf.range(200, dtype=tf.int64)
    batch = clean(tf.RaggedTensor.from_row_lengths(tf.tile(text_of(8).targets, [200]), [8] * 200))
    masked = text_infilling(SYMBOLS, mask_prob=0.5, span_length="constant", mean_span_length=4)(batch, keys)
    beside = set()
    for example in examples_of(token_insertion(SYMBOLS, insert_prob=0.5)(masked, keys)):
        audit(example)
        new = example.op == Op.INSERT
        assert new.sum() == 2
        beside |= {(example.op[at - 1], example.op[at]) for at in np.flatnonzero(new) if at}
        beside |= {(example.op[at], example.op[at + 1]) for at in np.flatnonzero(new) if at + 1 < len(new)}
    assert {(Op.MASK, Op.INSERT), (Op.INSERT, Op.MASK), (Op.KEEP, Op.INSERT), (Op.INSERT, Op.KEEP)} <= beside


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("ids", [[], [1, 2], [3], [10], [1, 10, 2]])
def test_short_texts_and_extreme_rates(ids, share):
    noised = clean(tf.constant(ids, tf.int32))
    for example in draw_many(token_insertion(SYMBOLS, insert_prob=share), noised, 3):
        audit(example)
        assert len(example.ids) == len(ids) + share * sum(token >= 10 for token in ids)


def test_the_share_counts_the_text_that_earlier_noise_left():
    """Half of the 10 tokens that a deletion left of 20 is 5."""
    keys = tf.range(1, dtype=tf.int64)
    deleted = token_deletion(SYMBOLS, deletion_prob=0.5)(text_of(20), keys)
    (example,) = examples_of(token_insertion(SYMBOLS, insert_prob=0.5)(deleted, keys))
    audit(example)
    assert len(example.ids) == 15


def test_schedules_are_evaluated_at_each_examples_step():
    texts = tf.RaggedTensor.from_row_lengths(tf.tile(tf.range(10, 30), [3]), [20] * 3)
    batch = clean(texts, steps=tf.constant([0, 50, 100], tf.int64))
    ramp = Linear(0.0, 1.0, steps=100)
    examples = examples_of(
        token_insertion(SYMBOLS, insert_prob=ramp, mask_random=ramp)(batch, tf.range(3, dtype=tf.int64))
    )
    assert [len(example.ids) for example in examples] == [20, 30, 40]
    masks = [np.sum(example.ids == SYMBOLS.mask_token) for example in examples]
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
def test_invalid_options_are_refused(options, message):
    with pytest.raises(CorruptionError, match=message):
        token_insertion(SYMBOLS, **options)
