"""Sentence permutation: uniform over orders, whole sentences, fixed protected tokens. Seeds are fixed."""

import collections
import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption.record import Noised, Op, clean
from denoise_jax.corruption.symbols import CorruptionError
from denoise_jax.corruption.sentences import sentence_permutation


def order_of(noised: Noised) -> tuple[int, ...]:
    """Sentences in the order in which they stand."""
    return tuple(dict.fromkeys(noised.sentence_ids[noised.source - 1].tolist()))


@pytest.mark.parametrize("sentences", [3, 4])
def test_all_orders_are_alike(symbols, text, draw_many, chi_square, sentences):
    """p above 1e-4, the false-alarm rate, over the 6 or 24 orders."""
    noised = text(*range(2, 2 + sentences))
    orders = collections.Counter(map(order_of, draw_many(sentence_permutation(symbols), noised, 3000)))
    counts = [orders[order] for order in itertools.permutations(range(1, sentences + 1))]
    assert sum(counts) == 3000
    assert chi_square(counts, 1 / len(counts)) > 1e-4


def test_sentences_stay_whole(symbols, text, draw_many, audit):
    noised = text(3, 1, 5, 2)
    for row in draw_many(sentence_permutation(symbols), noised, 100):
        audit(row)
        np.testing.assert_array_equal(np.sort(row.ids), noised.ids)
        steps = np.flatnonzero(np.diff(row.source) != 1)
        assert len(steps) <= 3  # only where one sentence ends and another begins
        assert (row.op == Op.KEEP).all()


def test_a_share_of_the_sentences(symbols, text, draw_many, chi_square):
    """ceil(0.5 x 5) = 3 take part: at least 2 stay, and each sentence is first as often as 1/5 (1e-4)."""
    rows = draw_many(sentence_permutation(symbols, permute_sentences=0.5), text(2, 2, 2, 2, 2), 3000)
    stays = [sum(s == p for p, s in enumerate(order_of(row), 1)) for row in rows]
    assert min(stays) == 2
    # Of 3 shuffled ones 1 stays by chance: 3 in the mean, standard deviation 1; 3 standard errors.
    assert abs(np.mean(stays) - 3) < 3 / math.sqrt(len(stays))
    moved = np.sum([[s != p for p, s in enumerate(order_of(row), 1)] for row in rows], 0)
    assert chi_square(moved, 1 / 5) > 1e-4


def test_true_and_false_are_all_and_none(symbols, text, draw_many):
    noised = text(2, 3, 4)
    every = draw_many(sentence_permutation(symbols, permute_sentences=True), noised, 20)
    whole = draw_many(sentence_permutation(symbols, permute_sentences=1.0), noised, 20)
    np.testing.assert_equal(every, whole)
    for row in draw_many(sentence_permutation(symbols, permute_sentences=False), noised, 20):
        np.testing.assert_array_equal(row.ids, noised.ids)


def test_one_sentence_and_none(symbols, draw_many):
    for ids in ([], [10], [10, 11, 12], [1, 2]):
        noised = clean(tf.constant(ids, tf.int32))
        for row in draw_many(sentence_permutation(symbols), noised, 3):
            for column, before in zip(row, noised, strict=True):
                np.testing.assert_array_equal(column, before)


def test_protected_tokens_keep_their_columns(symbols, draw_many, audit):
    ids = tf.constant([1, 10, 11, 3, 12, 13, 14, 2])  # start, text, separator, text, end
    noised = clean(ids, tf.constant([1, 1, 1, 1, 2, 2, 2, 2]))
    seen = set()
    for row in draw_many(sentence_permutation(symbols), noised, 30):
        audit(row)
        seen.add(tuple(row.ids.tolist()))
    assert seen == {(1, 10, 11, 3, 12, 13, 14, 2), (1, 12, 13, 3, 14, 10, 11, 2)}


def test_sentence_numbers_may_begin_anywhere(symbols, draw_many):
    """A piece cut from the middle of a document keeps the document's numbers."""
    noised = clean(tf.range(10, 16), tf.constant([7, 7, 8, 8, 8, 9]))
    assert len({order_of(row) for row in draw_many(sentence_permutation(symbols), noised, 60)}) == 6


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_out_of_bounds_is_refused(symbols, share):
    with pytest.raises(CorruptionError, match=f"permute_sentences={share}"):
        sentence_permutation(symbols, permute_sentences=share)
