"""Sentence permutation: uniform over orders, whole sentences, fixed protected tokens. Seeds are fixed."""

import collections
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise_jax.corruption.compose import chain
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.masking import token_masking
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.rates import Linear
from denoise_jax.corruption.record import Op, TargetNoise, clean
from denoise_jax.corruption.rotation import document_rotation
from denoise_jax.corruption.sentence_permutation import sentence_permutation
from denoise_jax.corruption.span_corruption import span_corruption


def order_of(row) -> tuple[int, ...]:
    """Sentences in the order in which they stand."""
    return tuple(dict.fromkeys(row.sentence_ids[row.source - 1].tolist()))


@pytest.fixture(scope="module")
def permute(symbols, traced):
    """permute(texts, keys, sentences, steps): each text with a share of step / 1000 of its sentences."""

    def share(steps):
        return tf.cast(tf.minimum(steps, 1000), tf.float64) / 1000

    return traced(sentence_permutation(symbols, permute_sentences=share))


@settings(max_examples=80)
@given(
    texts=st.lists(st.lists(st.integers(1, 4), max_size=6), max_size=4),  # lengths of sentences
    thousandths=st.lists(st.sampled_from([0, 70, 300, 500, 1000]), min_size=4, max_size=4),
    framed=st.booleans(),
    closed=st.booleans(),
    seed=st.integers(-(2**62), 2**62),
)
def test_any_window(permute, examples, audit, texts, thousandths, framed, closed, seed):
    """Sentences stay whole and in their text, and no more of them move than the share says; start and end
    stay, and the separators that close sentences travel with them."""
    ids, numbers = [], []
    for lengths in texts:
        own = np.repeat(np.arange(1, 1 + len(lengths)), lengths).tolist()
        last = [own[k + 1 : k + 2] != [number] for k, number in enumerate(own)]
        inner = [6 if closed and ends else 10 + k for k, ends in enumerate(last)]
        ids.append([1, *inner, 2] if framed else inner)
        numbers.append([*own[:1], *own, *own[-1:]] if framed and own else [1, 1] if framed else own)
    keys, steps = [seed + place for place in range(len(texts))], thousandths[: len(texts)]
    rows = examples(permute(ids, keys, numbers, steps))
    for lengths, share, text, row in zip(texts, thousandths, ids, rows, strict=False):
        audit(row)
        assert (row.op == Op.KEEP).all() and (row.target_noise == TargetNoise.VISIBLE).all()
        assert row.outputs.tolist() == row.targets.tolist() == text
        inner = slice(1, -1) if framed else slice(None)
        edges = np.ones(len(text), bool)
        edges[inner] = False
        np.testing.assert_array_equal(row.ids[edges], np.array(text)[edges])
        source = row.source[inner]
        order = [number for number, _ in itertools.groupby(row.sentence_ids[source - 1].tolist())]
        starts = np.cumsum([framed, *lengths])
        expected = [place + 1 for n in order for place in range(starts[n - 1], starts[n])]
        assert source.tolist() == expected
        assert sorted(order) == [*range(1, 1 + len(lengths))]
        moved = sum(number != place for place, number in enumerate(order, 1))
        assert moved <= math.ceil(Fraction(share, 1000) * len(lengths))


@pytest.mark.parametrize("sentences", [2, 3, 4])
def test_all_orders_are_alike(symbols, text, draw_many, chi_square, sentences):
    """p above 1e-4, the false-alarm rate, over the 2, 6 or 24 orders."""
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
    """ceil(0.5 x 5) = 3 take part: at least 2 stay, and all sentences move alike; p above 1e-4."""
    rows = draw_many(sentence_permutation(symbols, permute_sentences=0.5), text(2, 2, 2, 2, 2), 3000)
    moves = np.array([[s != p for p, s in enumerate(order_of(row), 1)] for row in rows])
    stays = 5 - moves.sum(1)
    assert stays.min() == 2
    # Of 3 shuffled ones 1 stays by chance: 3 in the mean, standard deviation 1; 3 standard errors (0.3 %).
    assert abs(stays.mean() - 3) < 3 / math.sqrt(len(stays))
    assert chi_square(moves.sum(0), 1 / 5) > 1e-4


def test_a_schedule_sets_the_share_by_the_step(symbols, traced):
    """At step 0 nothing moves, at 50 no more than ceil(0.5 x 6) = 3, at 100 all six in some of 40 windows."""
    run = traced(sentence_permutation(symbols, permute_sentences=Linear(0.0, 1.0, steps=100)))
    text, sentences = [*range(10, 22)], [1 + k // 2 for k in range(12)]
    noised = run([text] * 120, range(120), [sentences] * 120, [0, 50, 100] * 40)
    moved = [int((row != text).sum()) for row in noised.ids.numpy().reshape(120, 12)]
    assert set(moved[::3]) == {0}
    assert max(moved[1::3]) == 6
    assert max(moved[2::3]) == 12


def test_true_and_false_are_all_and_none(symbols, text, draw_many):
    noised = text(2, 3, 4)
    every = draw_many(sentence_permutation(symbols, permute_sentences=True), noised, 20)
    whole = draw_many(sentence_permutation(symbols, permute_sentences=1.0), noised, 20)
    np.testing.assert_equal(every, whole)
    for row in draw_many(sentence_permutation(symbols, permute_sentences=False), noised, 20):
        np.testing.assert_array_equal(row.ids, noised.ids)


@pytest.mark.parametrize("ids", [[], [10], [10, 11, 12], [1, 2]])
def test_one_sentence_and_none(symbols, draw_many, ids):
    for row in draw_many(sentence_permutation(symbols), clean(tf.constant(ids, tf.int32)), 3):
        assert row.ids.tolist() == ids
        assert row.source.tolist() == [*range(1, len(ids) + 1)]


def test_protected_tokens_keep_their_columns(symbols, draw_many, audit):
    ids = tf.constant([1, 10, 11, 3, 12, 13, 14, 2])  # start, text, separator of documents, text, end
    noised = clean(ids, tf.constant([1, 1, 1, 1, 2, 2, 2, 2]))
    seen = set()
    for row in draw_many(sentence_permutation(symbols), noised, 30):
        audit(row)
        seen.add(tuple(row.ids.tolist()))
    assert seen == {(1, 10, 11, 3, 12, 13, 14, 2), (1, 12, 13, 3, 14, 10, 11, 2)}


def test_the_separator_travels_with_its_sentence(symbols, draw_many, audit):
    noised = clean(tf.constant([1, 10, 11, 6, 12, 6, 2]), tf.constant([1, 1, 1, 1, 2, 2, 2]))
    seen = set()
    for row in draw_many(sentence_permutation(symbols), noised, 30):
        audit(row)
        seen.add(tuple(row.ids.tolist()))
    assert seen == {(1, 10, 11, 6, 12, 6, 2), (1, 12, 6, 10, 11, 6, 2)}


def test_sentinels_keep_their_columns(symbols, text, draw_many, audit):
    """The sign of where a rotated text began stays; text flows around it."""
    rotate = document_rotation(symbols, sentinel=True)
    both = draw_many(chain([rotate, sentence_permutation(symbols)]), text(2, 3, 4), 60)
    for row, before in zip(both, draw_many(chain([rotate]), text(2, 3, 4), 60), strict=True):
        audit(row)
        np.testing.assert_array_equal(np.flatnonzero(row.ids == 5), np.flatnonzero(before.ids == 5))
        np.testing.assert_array_equal(np.sort(row.ids), np.sort(before.ids))


def test_sentinels_of_hidden_text_travel_with_it(symbols, text, draw_many, audit):
    """T5's sentinels stand for text, so each stays with what is left of its sentence."""
    options = {"noise_density": 0.3, "mean_noise_span_length": 1, "max_tokens": 9}
    hide = span_corruption(symbols, **options)
    orders = set()
    for row in draw_many(chain([hide, sentence_permutation(symbols)]), text(3, 3, 3), 60):
        audit(row)
        own = row.sentence_ids[row.source - 1]
        orders.add(tuple(dict.fromkeys(own.tolist())))
        for sentence in set(own.tolist()):
            assert (np.diff(row.source[own == sentence]) > 0).all()
            assert len(set(np.flatnonzero(own == sentence) - np.arange((own == sentence).sum()))) == 1
    assert len(orders) == 6


@pytest.mark.parametrize("first", [token_masking, text_infilling])
def test_masks_travel_with_the_sentence_of_their_source(symbols, text, draw_many, audit, first):
    before = draw_many(chain([first(symbols)]), text(6, 7, 8), 40)
    both = draw_many(chain([first(symbols), sentence_permutation(symbols)]), text(6, 7, 8), 40)
    for row, masked in zip(both, before, strict=True):
        audit(row)
        own = row.sentence_ids[row.source - 1]
        assert np.count_nonzero(np.diff(own)) == len(set(own.tolist())) - 1
        for sentence in set(own.tolist()):
            expected = masked.ids[masked.sentence_ids[masked.source - 1] == sentence]
            np.testing.assert_array_equal(row.ids[own == sentence], expected)


def test_sentence_numbers_may_begin_anywhere(symbols, draw_many):
    """A piece cut from the middle of a document keeps the document's numbers."""
    noised = clean(tf.range(10, 16), tf.constant([7, 7, 8, 8, 8, 9]))
    assert len({order_of(row) for row in draw_many(sentence_permutation(symbols), noised, 60)}) == 6


def test_sentences_stay_in_their_example(symbols, traced, examples):
    """Neighbours with the same number of sentence are two sentences all the same."""
    run = traced(sentence_permutation(symbols))
    texts, sentences = [[10, 11, 12], [], [13, 14], [15]], [[1, 1, 2], [], [2, 3], [3]]
    for seed in range(10):
        rows = examples(run(texts, [seed, seed + 1, seed + 2, seed + 3], sentences))
        assert [sorted(row.ids.tolist()) for row in rows] == texts


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_out_of_bounds_is_refused(symbols, share):
    with pytest.raises(CorruptionError, match=f"permute_sentences={share}"):
        sentence_permutation(symbols, permute_sentences=share)
