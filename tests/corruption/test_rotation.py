"""Document rotation: uniform, including the identity, and where the sentinel goes. Seeds are fixed. False-
alarm rates say how unlikely a failure by chance is after a change of the noise."""

import math

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.insertion import token_insertion
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.rates import Linear
from denoise_jax.corruption.record import Op, TargetNoise, clean
from denoise_jax.corruption.rotation import document_rotation
from denoise_jax.corruption.symbols import Symbols
from tests.corruption.helpers import (
    ROTATION,
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
SENTENCE_IDS = [[k // 3 for k in range(len(ids))] for ids in TEXTS]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("unit", ["token", "word", "sentence"])
@pytest.mark.parametrize("sentinel", [False, True])
def test_movable_tokens_are_rotated_and_the_sentinel_marks_the_old_beginning(share, unit, sentinel):
    corruption = document_rotation(SYMBOLS, rotate_prob=share, unit=unit, sentinel=sentinel)
    noised = corruption(batch_of(TEXTS, SENTENCE_IDS), keys_of(len(TEXTS)))
    for ids, example in zip(TEXTS, examples_of(noised), strict=True):
        ids = np.asarray(ids, np.int32)
        audit(example)
        assert (example.target_noise == TargetNoise.VISIBLE).all()
        marks = np.flatnonzero(example.op == Op.SENTINEL)
        without = np.delete(example.source, marks)
        np.testing.assert_array_equal(np.delete(example.ids, marks), ids[without - 1])
        fixed = ids <= 3
        np.testing.assert_array_equal(without[fixed], 1 + np.flatnonzero(fixed))
        text = 1 + np.flatnonzero(~fixed)
        pivot = np.flatnonzero(without[~fixed][:1] == text) if len(text) else np.zeros(1, int)
        np.testing.assert_array_equal(np.roll(text, -pivot[0]), without[~fixed])
        if share == 0 or not len(text):
            np.testing.assert_array_equal(example.ids, ids)
        if share == 1 and sentinel and len(text):
            assert len(marks) == 1
        for mark in marks:
            assert sentinel and example.ids[mark] == ROTATION and example.span[mark] == 1
            assert example.source[mark] == example.source[mark + 1] == text[0]


@pytest.mark.parametrize("tokens", [1, 2, 5, 8])
def test_all_rotations_are_equally_likely(tokens):
    """Each of n tokens comes first with probability 1/n, including the original first: p > 1e-4."""
    noised = clean(tf.constant([1, *range(10, 10 + tokens), 2]))
    examples = draw_many(document_rotation(SYMBOLS), noised, 4000)
    counts = np.bincount([example.ids[1] - 10 for example in examples], minlength=tokens)
    assert counts.sum() == 4000 and len(counts) == tokens
    if tokens > 1:
        assert chi_square(counts, 1 / tokens) > 1e-4


def test_text_is_rotated_around_special_tokens():
    noised = clean(tf.constant([1, 10, 11, 3, 12, 2]))
    seen = {tuple(example.ids.tolist()) for example in draw_many(document_rotation(SYMBOLS), noised, 50)}
    assert seen == {(1, 10, 11, 3, 12, 2), (1, 11, 12, 3, 10, 2), (1, 12, 10, 3, 11, 2)}


@pytest.mark.parametrize(("sentinel", "token"), [(True, ROTATION), (3, 3), (np.int64(901), 901)])
def test_the_sentinel_precedes_the_original_first_token(sentinel, token):
    noised = clean(tf.constant([1, 10, 11, 12, 2]))
    examples = draw_many(document_rotation(SYMBOLS, sentinel=sentinel), noised, 50)
    for example in examples:
        audit(example)
        assert (example.op[example.source == 2].tolist(), example.span.sum()) == ([Op.SENTINEL, Op.KEEP], 11)
    assert {tuple(example.ids.tolist()) for example in examples} == {
        (1, token, 10, 11, 12, 2),
        (1, 11, 12, token, 10, 2),
        (1, 12, token, 10, 11, 2),
    }


def test_a_share_is_rotated_and_marked():
    """Each text with probability 0.3, independently; 4.5 standard errors (1 false alarm in 150,000)."""
    examples = draw_many(document_rotation(SYMBOLS, rotate_prob=0.3, sentinel=True), text_of(8), 4000)
    marked = np.asarray([len(example.ids) == 9 for example in examples])
    assert abs(marked.mean() - 0.3) < 4.5 * math.sqrt(0.21 / 4000)
    for example, has in zip(examples, marked, strict=True):
        if not has:
            np.testing.assert_array_equal(example.ids, example.targets)


def test_the_sentinel_does_not_affect_the_rotation():
    plain = draw_many(document_rotation(SYMBOLS), text_of(8), 20)
    marked = draw_many(document_rotation(SYMBOLS, sentinel=True), text_of(8), 20)
    for example, other in zip(plain, marked, strict=True):
        np.testing.assert_array_equal(example.ids, other.ids[other.ids != ROTATION])


def test_rotations_to_words_are_uniform():
    """Ids divisible by 3 continue a word: a text begins with 10, 11, 13 or 14 equally often; p > 1e-4."""
    noised = clean(tf.constant([1, *range(10, 16), 2]))
    first = [example.ids[1] for example in draw_many(document_rotation(SYMBOLS, unit="word"), noised, 3000)]
    counts = [first.count(token) for token in (10, 11, 13, 14)]
    assert sum(counts) == 3000
    assert chi_square(counts, 1 / 4) > 1e-4


def test_rotations_to_sentences_are_uniform():
    """Sentences of 4, 1 and 2 tokens: a text begins with each equally often; p > 1e-4."""
    first = [
        example.ids[0]
        for example in draw_many(document_rotation(SYMBOLS, unit="sentence"), text_of(4, 1, 2), 3000)
    ]
    counts = [first.count(token) for token in (10, 14, 15)]
    assert sum(counts) == 3000
    assert chi_square(counts, 1 / 3) > 1e-4


def test_noise_moves_with_its_sentence():
    """Insertions and masks move with the sentence of their source, also after the last token."""
    keys = tf.range(60, dtype=tf.int64)
    batch = clean(
        tf.RaggedTensor.from_row_lengths(tf.tile(text_of(6).targets, [60]), [6] * 60),
        tf.RaggedTensor.from_row_lengths(tf.tile([1, 1, 1, 2, 2, 2], [60]), [6] * 60),
    )
    masked = text_infilling(SYMBOLS, mask_prob=0.3)(
        token_insertion(SYMBOLS, insert_prob=0.5)(batch, keys), keys
    )
    turned = examples_of(document_rotation(SYMBOLS, unit="sentence", sentinel=True)(masked, keys))
    begins = set()
    for before, example in zip(examples_of(masked), turned, strict=True):
        audit(example)
        assert len(example.ids) == len(before.ids) + 1
        sentence = np.minimum(example.source, 6) > 3
        assert np.sum(sentence[1:] != sentence[:-1]) <= 1
        begins.add(bool(sentence[0]))
        mark = np.argmax(example.op == Op.SENTINEL)
        assert example.ids[mark + 1] == before.ids[0] and example.op[mark + 1] == before.op[0]
    assert begins == {False, True}


@pytest.mark.parametrize("unit", ["token", "word", "sentence"])
@pytest.mark.parametrize("ids", [[], [1, 2], [10], [1, 10, 2]])
def test_texts_of_at_most_one_token(ids, unit):
    """A single token is rotated to itself, and marked; texts without tokens are unchanged."""
    noised = clean(tf.constant(ids, tf.int32))
    for example in draw_many(document_rotation(SYMBOLS, sentinel=True, unit=unit), noised, 3):
        audit(example)
        assert example.ids.tolist() == [
            one for token in ids for one in ([ROTATION, 10] if token == 10 else [token])
        ]


def test_the_marker_of_an_earlier_rotation_keeps_its_position():
    keys = tf.range(20, dtype=tf.int64)
    batch = clean(tf.RaggedTensor.from_row_lengths(tf.tile(text_of(7).targets, [20]), [7] * 20))
    first = document_rotation(SYMBOLS, sentinel=True)(batch, keys)
    for before, example in zip(
        examples_of(first), examples_of(document_rotation(SYMBOLS)(first, keys)), strict=True
    ):
        audit(example)
        np.testing.assert_array_equal(example.op, before.op)


def test_a_schedule_is_evaluated_at_each_examples_step():
    texts = tf.RaggedTensor.from_row_lengths(tf.tile(tf.range(10, 18), [300]), [8] * 300)
    batch = clean(texts, steps=tf.repeat(tf.constant([0, 50, 100], tf.int64), 100))
    corruption = document_rotation(SYMBOLS, rotate_prob=Linear(0.0, 1.0, steps=100), sentinel=True)
    examples = examples_of(corruption(batch, tf.range(300, dtype=tf.int64)))
    marked = np.asarray([len(example.ids) == 9 for example in examples]).reshape(3, 100).sum(1)
    assert marked[0] == 0 and marked[2] == 100
    assert 25 < marked[1] < 75  # 5 standard deviations (1 false alarm in a million)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotate_prob": 1.5}, "rotate_prob=1.5 must lie between 0 and 1"),
        ({"unit": "line"}, "unit='line' .* choose one of token, word, sentence"),
        ({"sentinel": 0}, "sentinel=0 is padding to packing"),
        ({"sentinel": 50}, "sentinel=50 is not a protected id.* add it to symbols.protected"),
        ({"sentinel": -1}, "sentinel=-1 is not a protected id"),
        ({"sentinel": "[ROT]"}, r"sentinel='\[ROT\]' must be True, False or the id of a special token"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(CorruptionError, match=message):
        document_rotation(SYMBOLS, **options)


def test_a_vocabulary_without_rotation_token_or_word_starts_is_refused():
    bare = Symbols(mask_token=4, vocab_size=16)
    with pytest.raises(CorruptionError, match="sentinel=True requires symbols.rotation_token"):
        document_rotation(bare, sentinel=True)
    with pytest.raises(CorruptionError, match="give word_starts"):
        document_rotation(bare, unit="word")
