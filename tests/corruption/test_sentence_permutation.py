"""Sentence permutation: uniform over orders, complete sentences, fixed protected tokens. Seeds are fixed.
False-alarm rates say how unlikely a failure by chance is after a change of the noise."""

import collections
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption.compose import chain
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.masking import token_masking
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.rates import Linear
from denoise_jax.corruption.record import Op, TargetNoise, clean
from denoise_jax.corruption.rotation import document_rotation
from denoise_jax.corruption.sentence_permutation import sentence_permutation
from denoise_jax.corruption.span_corruption import span_corruption
from tests.corruption.helpers import (
    SYMBOLS,
    audit,
    batch_of,
    chi_square,
    draw_many,
    examples_of,
    keys_of,
    text_of,
)


def order_of(example) -> tuple[int, ...]:
    """The sentences in their order in the corrupted text."""
    return tuple(dict.fromkeys(example.sentence_ids[example.source - 1].tolist()))


def share_of_step(steps):
    """A schedule that lets a test set the share of each text, in thousandths."""
    return tf.cast(tf.minimum(steps, 1000), tf.float64) / 1000


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("closed", [False, True])
def test_whole_sentences_move_within_their_text(framed, closed):
    """No more of them than the share; start and end stay, and separators move with their sentences."""
    random = np.random.default_rng(0)
    texts = [random.integers(1, 5, random.integers(0, 7)).tolist() for _ in range(100)]  # sentence lengths
    thousandths = np.resize([0, 70, 300, 500, 1000], len(texts)).tolist()
    ids, numbers = [], []
    for lengths in texts:
        own = np.repeat(np.arange(1, 1 + len(lengths)), lengths).tolist()
        last = [own[k + 1 : k + 2] != [number] for k, number in enumerate(own)]
        inner = [6 if closed and ends else 10 + k for k, ends in enumerate(last)]
        ids.append([1, *inner, 2] if framed else inner)
        numbers.append([*own[:1], *own, *own[-1:]] if framed and own else [1, 1] if framed else own)
    batch = batch_of(ids, numbers, steps=tf.constant(thousandths, tf.int64))
    corrupt = sentence_permutation(SYMBOLS, permute_sentences=share_of_step)
    examples = examples_of(corrupt(batch, keys_of(len(ids))))
    for lengths, share, text, example in zip(texts, thousandths, ids, examples, strict=True):
        audit(example)
        assert (example.op == Op.KEEP).all() and (example.target_noise == TargetNoise.VISIBLE).all()
        assert example.outputs.tolist() == example.targets.tolist() == text
        inner = slice(1, -1) if framed else slice(None)
        edges = np.ones(len(text), bool)
        edges[inner] = False
        np.testing.assert_array_equal(example.ids[edges], np.array(text)[edges])
        source = example.source[inner]
        order = [number for number, _ in itertools.groupby(example.sentence_ids[source - 1].tolist())]
        starts = np.cumsum([framed, *lengths])
        expected = [position + 1 for n in order for position in range(starts[n - 1], starts[n])]
        assert source.tolist() == expected
        assert sorted(order) == [*range(1, 1 + len(lengths))]
        moved = sum(number != position for position, number in enumerate(order, 1))
        assert moved <= math.ceil(Fraction(share, 1000) * len(lengths))


@pytest.mark.parametrize("sentences", [2, 3, 4])
def test_all_orders_are_equally_likely(sentences):
    """The 2, 6 or 24 orders: p > 1e-4."""
    noised = text_of(*range(2, 2 + sentences))
    orders = collections.Counter(map(order_of, draw_many(sentence_permutation(SYMBOLS), noised, 3000)))
    counts = [orders[order] for order in itertools.permutations(range(1, sentences + 1))]
    assert sum(counts) == 3000
    assert chi_square(counts, 1 / len(counts)) > 1e-4


def test_sentences_stay_contiguous():
    noised = text_of(3, 1, 5, 2)
    for example in draw_many(sentence_permutation(SYMBOLS), noised, 100):
        audit(example)
        np.testing.assert_array_equal(np.sort(example.ids), noised.ids)
        steps = np.flatnonzero(np.diff(example.source) != 1)
        assert len(steps) <= 3  # only between two sentences
        assert (example.op == Op.KEEP).all()


def test_a_share_of_the_sentences_takes_part():
    """ceil(0.5 x 5) = 3 take part, so at least 2 stay, and all sentences move equally often: p > 1e-4."""
    examples = draw_many(sentence_permutation(SYMBOLS, permute_sentences=0.5), text_of(2, 2, 2, 2, 2), 3000)
    moves = np.array([[s != p for p, s in enumerate(order_of(example), 1)] for example in examples])
    stays = 5 - moves.sum(1)
    assert stays.min() == 2
    # One of 3 shuffled sentences stays on average, so 3 stay, with standard deviation 1; 3 standard errors.
    assert abs(stays.mean() - 3) < 3 / math.sqrt(len(stays))
    assert chi_square(moves.sum(0), 1 / 5) > 1e-4


def test_a_schedule_is_evaluated_at_each_examples_step():
    """No sentence moves at step 0, at most ceil(0.5 x 6) = 3 at step 50, and in some of 40 texts all at step
    100."""
    corrupt = sentence_permutation(SYMBOLS, permute_sentences=Linear(0.0, 1.0, steps=100))
    text, sentences = [*range(10, 22)], [1 + k // 2 for k in range(12)]
    steps = tf.constant([0, 50, 100] * 40, tf.int64)
    noised = corrupt(batch_of([text] * 120, [sentences] * 120, steps=steps), keys_of(120))
    moved = [int((example != text).sum()) for example in noised.ids.numpy().reshape(120, 12)]
    assert set(moved[::3]) == {0}
    assert max(moved[1::3]) == 6
    assert max(moved[2::3]) == 12


def test_true_and_false_are_all_and_none():
    noised = text_of(2, 3, 4)
    every = draw_many(sentence_permutation(SYMBOLS, permute_sentences=True), noised, 20)
    whole = draw_many(sentence_permutation(SYMBOLS, permute_sentences=1.0), noised, 20)
    np.testing.assert_equal(every, whole)
    for example in draw_many(sentence_permutation(SYMBOLS, permute_sentences=False), noised, 20):
        np.testing.assert_array_equal(example.ids, noised.ids)


@pytest.mark.parametrize("ids", [[], [10], [10, 11, 12], [1, 2]])
def test_texts_of_at_most_one_sentence_are_unchanged(ids):
    for example in draw_many(sentence_permutation(SYMBOLS), clean(tf.constant(ids, tf.int32)), 3):
        assert example.ids.tolist() == ids
        assert example.source.tolist() == [*range(1, len(ids) + 1)]


def test_protected_tokens_keep_their_positions():
    ids = tf.constant([1, 10, 11, 3, 12, 13, 14, 2])  # start, text, separator of documents, text, end
    noised = clean(ids, tf.constant([1, 1, 1, 1, 2, 2, 2, 2]))
    seen = set()
    for example in draw_many(sentence_permutation(SYMBOLS), noised, 30):
        audit(example)
        seen.add(tuple(example.ids.tolist()))
    assert seen == {(1, 10, 11, 3, 12, 13, 14, 2), (1, 12, 13, 3, 14, 10, 11, 2)}


def test_the_separator_moves_with_its_sentence():
    noised = clean(tf.constant([1, 10, 11, 6, 12, 6, 2]), tf.constant([1, 1, 1, 1, 2, 2, 2]))
    seen = set()
    for example in draw_many(sentence_permutation(SYMBOLS), noised, 30):
        audit(example)
        seen.add(tuple(example.ids.tolist()))
    assert seen == {(1, 10, 11, 6, 12, 6, 2), (1, 12, 6, 10, 11, 6, 2)}


def test_the_marker_of_a_rotation_keeps_its_position():
    """Text is reordered around it."""
    rotate = document_rotation(SYMBOLS, sentinel=True)
    both = draw_many(chain([rotate, sentence_permutation(SYMBOLS)]), text_of(2, 3, 4), 60)
    for example, before in zip(both, draw_many(chain([rotate]), text_of(2, 3, 4), 60), strict=True):
        audit(example)
        np.testing.assert_array_equal(np.flatnonzero(example.ids == 5), np.flatnonzero(before.ids == 5))
        np.testing.assert_array_equal(np.sort(example.ids), np.sort(before.ids))


def test_sentinels_of_hidden_text_move_with_its_sentence():
    options = {"noise_density": 0.3, "mean_noise_span_length": 1, "max_tokens": 9}
    hide = span_corruption(SYMBOLS, **options)
    orders = set()
    for example in draw_many(chain([hide, sentence_permutation(SYMBOLS)]), text_of(3, 3, 3), 60):
        audit(example)
        own = example.sentence_ids[example.source - 1]
        orders.add(tuple(dict.fromkeys(own.tolist())))
        for sentence in set(own.tolist()):
            assert (np.diff(example.source[own == sentence]) > 0).all()
            assert len(set(np.flatnonzero(own == sentence) - np.arange((own == sentence).sum()))) == 1
    assert len(orders) == 6


@pytest.mark.parametrize("first", [token_masking, text_infilling])
def test_masks_move_with_the_sentence_of_their_source(first):
    before = draw_many(chain([first(SYMBOLS)]), text_of(6, 7, 8), 40)
    both = draw_many(chain([first(SYMBOLS), sentence_permutation(SYMBOLS)]), text_of(6, 7, 8), 40)
    for example, masked in zip(both, before, strict=True):
        audit(example)
        own = example.sentence_ids[example.source - 1]
        assert np.count_nonzero(np.diff(own)) == len(set(own.tolist())) - 1
        for sentence in set(own.tolist()):
            expected = masked.ids[masked.sentence_ids[masked.source - 1] == sentence]
            np.testing.assert_array_equal(example.ids[own == sentence], expected)


def test_sentence_ids_may_start_anywhere():
    """A chunk from the middle of a document keeps the document's sentence ids."""
    noised = clean(tf.range(10, 16), tf.constant([7, 7, 8, 8, 8, 9]))
    assert len({order_of(example) for example in draw_many(sentence_permutation(SYMBOLS), noised, 60)}) == 6


def test_sentences_stay_in_their_example():
    """Even if the sentences on both sides of a boundary have the same id."""
    texts, sentences = [[10, 11, 12], [], [13, 14], [15]], [[1, 1, 2], [], [2, 3], [3]]
    noised = sentence_permutation(SYMBOLS)(batch_of(texts * 10, sentences * 10), keys_of(40))
    assert [sorted(example.ids.tolist()) for example in examples_of(noised)] == texts * 10


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_out_of_bounds_is_refused(share):
    with pytest.raises(CorruptionError, match=f"permute_sentences={share}"):
        sentence_permutation(SYMBOLS, permute_sentences=share)
