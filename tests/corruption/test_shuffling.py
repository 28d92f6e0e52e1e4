"""Token shuffling: the exact bound, Lample's distribution, uniform orders. Seeds are fixed. False-alarm rates
say how unlikely a failure by chance is after a change of the noise."""

import collections
import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.rates import Linear
from denoise_jax.corruption.record import Op, TargetNoise, clean
from denoise_jax.corruption.shuffling import MAX_DISTANCE, token_shuffling
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

TEXTS = random_texts((1, 2, 3), (6, *range(10, 61)))


@pytest.mark.parametrize("distance", [None, 1, 2, 5])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("unit", ["token", "word"])
def test_movable_tokens_are_permuted_within_the_distance(distance, share, unit):
    """The separator of sentences, id 6, moves as well; other special tokens stay."""
    corruption = token_shuffling(SYMBOLS, shuffle_distance=distance, shuffle_prob=share, unit=unit)
    noised = corruption(batch_of(TEXTS), keys_of(len(TEXTS)))
    for ids, example in zip(TEXTS, examples_of(noised), strict=True):
        ids = np.asarray(ids, np.int32)
        audit(example)
        places = np.arange(1, len(ids) + 1)
        np.testing.assert_array_equal(np.sort(example.source), places)
        np.testing.assert_array_equal(example.ids, ids[example.source - 1])
        assert (example.op == Op.KEEP).all()
        assert (example.target_noise == TargetNoise.VISIBLE).all()
        fixed = ids <= 3
        np.testing.assert_array_equal(example.source[fixed], places[fixed])
        if share == 0:
            np.testing.assert_array_equal(example.ids, ids)
        rank = np.cumsum(~fixed)
        moved = np.abs(rank[example.source - 1] - rank)[~fixed]
        if unit == "token":
            assert np.sum(moved > 0) <= math.ceil(share * np.sum(~fixed))
        if unit == "token" and share == 1 and distance is not None:
            assert (moved <= distance).all()


@pytest.mark.parametrize(
    ("distance", "mean", "stay"),
    [(1, 0.2501, 0.7499), (2, 0.5444, 0.5176), (3, 0.8256, 0.3679), (5, 1.3648, 0.2139)],
)
def test_moves_follow_lamples_distribution(distance, mean, stay):
    """No unit of 60 moves by more than the distance, some by exactly the distance.

    Means are of the middle 30 tokens of each of 500 independent texts; the expected values are known to 4
    decimals. 5 standard errors plus half of the last digit (1 false alarm in a million).
    """
    examples = draw_many(token_shuffling(SYMBOLS, shuffle_distance=distance), text_of(60), 500)
    position = np.argsort(np.stack([example.source for example in examples]), axis=1)
    moved = np.abs(position - np.arange(60))
    assert moved.max() == distance
    middle = moved[:, 15:45]
    per_text = middle.mean(1), (middle == 0).mean(1)
    for measured, expected in zip(per_text, (mean, stay), strict=True):
        error = measured.std() / math.sqrt(len(measured))
        assert abs(measured.mean() - expected) < 5 * error + 0.00005


@pytest.mark.parametrize(("distance", "swapped"), [(1, 1 / 8), (2, 2 / 9), (3, 9 / 32), (5, 25 / 72)])
def test_probability_of_swapping_two_tokens(distance, swapped):
    """(a - 1)^2 / 2 a^2 for a = distance + 1; 4.5 standard errors (1 false alarm in 150,000)."""
    noised = clean(tf.constant([1, 10, 3, 11, 2]))
    examples = draw_many(token_shuffling(SYMBOLS, shuffle_distance=distance), noised, 8000)
    share = np.mean([example.ids[1] == 11 for example in examples])
    assert abs(share - swapped) < 4.5 * math.sqrt(swapped * (1 - swapped) / 8000)


@pytest.mark.parametrize(("tokens", "distance"), [(3, None), (4, None), (3, MAX_DISTANCE)])
def test_all_orders_are_equally_likely(tokens, distance):
    """The 6 or 24 orders, with no limit or a very large one: p > 1e-4."""
    examples = draw_many(token_shuffling(SYMBOLS, shuffle_distance=distance), text_of(tokens), 4000)
    orders = collections.Counter(tuple(example.source.tolist()) for example in examples)
    counts = [orders[order] for order in itertools.permutations(range(1, tokens + 1))]
    assert sum(counts) == 4000
    assert chi_square(counts, 1 / len(counts)) > 1e-4


def test_a_share_of_the_tokens_takes_part():
    """3 of 6, chosen uniformly: of their 6 orders one moves none, three move 2 and two move 3. p > 1e-4 for
    each."""
    noised = clean(tf.constant([1, 10, 11, 12, 3, 13, 14, 15, 2]))
    examples = draw_many(token_shuffling(SYMBOLS, shuffle_distance=None, shuffle_prob=0.5), noised, 4000)
    moved = np.stack([example.ids != example.targets for example in examples])
    assert not moved[:, [0, 4, 8]].any()
    counts = np.bincount(moved.sum(1), minlength=4)
    assert counts.sum() == 4000 and counts[1] == 0 and len(counts) == 4
    assert chi_square(counts[[0, 2, 3]], [1 / 6, 3 / 6, 2 / 6]) > 1e-4
    threes = collections.Counter(tuple(np.flatnonzero(example)) for example in moved if example.sum() == 3)
    assert len(threes) == 20
    assert chi_square(list(threes.values()), 1 / 20) > 1e-4


def test_the_distance_counts_units_that_take_part():
    """A unit that takes part stays or changes places with the next one that does, however far away it is."""
    examples = draw_many(token_shuffling(SYMBOLS, shuffle_distance=1, shuffle_prob=0.2), text_of(20), 300)
    furthest = 0
    for example in examples:
        moved = np.flatnonzero(example.source != np.arange(1, 21))
        assert len(moved) in (0, 2, 4)
        furthest = max(furthest, *np.abs(example.source - np.arange(1, 21)))
        for left, right in moved.reshape(-1, 2):
            assert (example.source[left], example.source[right]) == (right + 1, left + 1)
    assert furthest > 5


@pytest.mark.parametrize("distance", [1, 3, None])
def test_words_stay_together(distance):
    """Ids divisible by 3 continue a word: 10, 11 12, 13, 14 15, 16 and 17 18 21 are six words."""
    words = [(10,), (11, 12), (13,), (14, 15), (16,), (17, 18, 21)]
    noised = clean(tf.constant([1, *(token for word in words for token in word), 2]))
    furthest = 0
    for example in draw_many(token_shuffling(SYMBOLS, shuffle_distance=distance, unit="word"), noised, 300):
        audit(example)
        left = example.ids[1:-1].tolist()
        order = []
        while left:
            word = next(word for word in words if word[0] == left[0])
            assert tuple(left[: len(word)]) == word
            order.append(words.index(word))
            left = left[len(word) :]
        assert sorted(order) == list(range(6))
        furthest = max(furthest, *np.abs(np.asarray(order) - np.arange(6)))
    assert furthest == (distance or 5)


def test_words_move_around_special_tokens():
    """A word may lie on both sides of a special token, after which a token always begins a word."""
    noised = clean(tf.constant([10, 3, 11, 12]))
    seen = {
        tuple(example.ids.tolist())
        for example in draw_many(token_shuffling(SYMBOLS, shuffle_distance=None, unit="word"), noised, 50)
    }
    assert seen == {(10, 3, 11, 12), (11, 3, 12, 10)}


@pytest.mark.parametrize("ids", [[], [10], [1, 2], [1, 10, 2]])
@pytest.mark.parametrize("distance", [3, None])
def test_texts_of_at_most_one_token_are_unchanged(ids, distance):
    noised = clean(tf.constant(ids, tf.int32))
    for example in draw_many(token_shuffling(SYMBOLS, shuffle_distance=distance), noised, 3):
        audit(example)
        np.testing.assert_array_equal(example.ids, ids)


def test_masks_keep_their_provenance():
    keys = tf.range(20, dtype=tf.int64)
    batch = clean(tf.RaggedTensor.from_row_lengths(tf.tile(text_of(12).targets, [20]), [12] * 20))
    masked = text_infilling(SYMBOLS, span_length="poisson")(batch, keys)
    shuffled = token_shuffling(SYMBOLS, shuffle_distance=None)(masked, keys)
    for before, example in zip(examples_of(masked), examples_of(shuffled), strict=True):
        audit(example)
        np.testing.assert_array_equal(example.target_noise, before.target_noise)
        tokens = [sorted(zip(*one[:4], strict=True)) for one in (before, example)]
        assert tokens[0] == tokens[1]


def test_tokens_of_long_texts_stay_in_their_example():
    """Next to a text of 5,000 tokens, none moves by more than 3."""
    sizes = [5000, 0, 1, 2, 3000]
    ids = tf.range(sum(sizes), dtype=tf.int32) % 700 + 10
    batch = clean(tf.RaggedTensor.from_row_lengths(ids, sizes))
    for example in examples_of(token_shuffling(SYMBOLS)(batch, tf.range(5, dtype=tf.int64))):
        position = np.argsort(example.source)
        assert np.abs(position - np.arange(len(position))).max(initial=0) <= 3


def test_a_schedule_is_evaluated_at_each_examples_step():
    texts = tf.RaggedTensor.from_row_lengths(tf.tile(tf.range(10, 110), [3]), [100] * 3)
    batch = clean(texts, steps=tf.constant([0, 50, 100], tf.int64))
    corruption = token_shuffling(SYMBOLS, shuffle_distance=None, shuffle_prob=Linear(0.0, 1.0, steps=100))
    moved = [
        np.sum(example.ids != example.targets)
        for example in examples_of(corruption(batch, tf.range(3, dtype=tf.int64)))
    ]
    assert moved[0] == 0
    assert 40 < moved[1] <= 50
    assert moved[2] > 90


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shuffle_distance": 0}, "shuffle_distance=0 must be a whole number .* or None for no limit"),
        ({"shuffle_distance": -2}, "shuffle_distance=-2 must be"),
        ({"shuffle_distance": 2.5}, "shuffle_distance=2.5 must be a whole number"),
        ({"shuffle_distance": float("nan")}, "shuffle_distance=nan must be"),
        ({"shuffle_distance": MAX_DISTANCE + 1}, "shuffle_distance=1000001 must be"),
        ({"shuffle_prob": 1.5}, "shuffle_prob=1.5 must lie between 0 and 1"),
        ({"unit": "sentence"}, "unit='sentence' .* choose one of token, word"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(CorruptionError, match=message):
        token_shuffling(SYMBOLS, **options)


def test_words_require_word_starts():
    with pytest.raises(CorruptionError, match="give word_starts"):
        token_shuffling(Symbols(mask_token=4, vocab_size=16), unit="word")
