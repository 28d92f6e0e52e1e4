"""Units: tokens and words, compared with a loop over the text."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption.compose import chain
from denoise_jax.corruption.masking import token_masking
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.record import Op, clean
from denoise_jax.corruption.row_partition import RowPartition
from denoise_jax.corruption.shuffling import token_shuffling
from denoise_jax.corruption.symbols import Symbols
from denoise_jax.corruption.units import check_unit, units
from tests.corruption.helpers import SYMBOLS, batch_of, draw_many, random_texts

TEXTS = random_texts((1, 6, 900), (10, 11, 12, 15), longest=8)


def reference_units(texts, symbols, unit):
    """The unit of each token, or None, and the number of units of each text."""
    unit_ids, sizes, number = [], [], -1
    for text in texts:
        before, previous = number, None
        for token in text:
            if token in symbols.protected:
                unit_ids.append(None)
            else:
                inside = previous is not None and previous not in symbols.protected
                number += not (unit == "word" and inside and not symbols.word_starts[token])
                unit_ids.append(number)
            previous = token
        sizes.append(number - before)
    return unit_ids, sizes


@pytest.mark.parametrize("unit", ["token", "word"])
def test_units_are_those_of_a_loop_over_the_text(unit):
    found = units(SYMBOLS, batch_of(TEXTS), unit)
    unit_ids, sizes = reference_units(TEXTS, SYMBOLS, unit)
    assert found.partition.row_lengths.numpy().tolist() == sizes
    assert found.eligible.numpy().tolist() == [unit is not None for unit in unit_ids]
    assert found.unit_ids.numpy().tolist() == [sum(sizes) if unit is None else unit for unit in unit_ids]
    broadcast = found.broadcast(1 + tf.range(sum(sizes)))
    assert broadcast.numpy().tolist() == [0 if unit is None else 1 + unit for unit in unit_ids]


def test_noise_begins_a_word_where_its_text_did():
    """12 and 15 continue a word; masks and random tokens do as their text did, and insertions are words."""
    tokens = [
        # id, source, span, op, unit
        (10, 1, 2, Op.KEEP, 0),
        (4, 2, 2, Op.MASK, 0),  # for 12
        (4, 3, 3, Op.MASK, 1),  # for 11, 15
        (12, 5, 2, Op.RANDOM, 2),  # for 13
        (4, 6, 1, Op.INSERT, 3),
        (15, 6, 2, Op.KEEP, 3),
        (10, 7, 1, Op.INSERT, 4),
    ]
    ids, source, span, op, unit_ids = (tf.constant(values, tf.int32) for values in zip(*tokens, strict=True))
    noised = clean(tf.constant([10, 12, 11, 15, 13, 15]))
    noised = noised._replace(
        ids=ids,
        source=source,
        span=span,
        op=op,
        partition=RowPartition.from_row_lengths(tf.size(ids)[tf.newaxis]),
    )
    found = units(SYMBOLS, noised, "word", SYMBOLS.movable(noised))
    np.testing.assert_array_equal(found.unit_ids, unit_ids)


def test_masked_words_are_shuffled_like_others():
    """Words are masked, then all words shuffled: a mask keeps its left neighbour with probability 1/8."""
    words = chain(
        [
            token_masking(SYMBOLS, mask_prob=0.3, random_prob=0, keep_prob=0, whole_word=True),
            token_shuffling(SYMBOLS, shuffle_distance=None, unit="word"),
        ]
    )
    noised = clean(tf.constant([k for k in range(10, 22) if k % 3]))  # eight words of one token
    masks = together = 0
    for example in draw_many(words, noised, 200):
        for position in np.flatnonzero(example.op == Op.MASK):
            masks += 1
            together += position > 0 and example.source[position - 1] == example.source[position] - 1
    assert masks == 600
    assert together < 0.2 * masks  # 1/8 expected, |z| of 5.5: a false alarm in 10^8


def test_broadcast_flags_are_flags():
    found = units(SYMBOLS, clean(tf.constant([1, 10, 12, 11])), "word")
    assert found.broadcast(tf.constant([True, False])).numpy().tolist() == [False, True, True, False]


def test_only_eligible_tokens_belong_to_units():
    """After one that is not, a token begins a word regardless of the table."""
    noised = clean(tf.constant([10, 12, 15, 12]))
    found = units(SYMBOLS, noised, "word", tf.constant([True, False, True, True]))
    np.testing.assert_array_equal(found.unit_ids, [0, 2, 1, 1])


def test_unknown_units_and_words_are_refused():
    assert check_unit(SYMBOLS, "word") == "word"
    with pytest.raises(CorruptionError, match="unit='line' is unknown; choose one of token, word"):
        check_unit(SYMBOLS, "line")
    with pytest.raises(CorruptionError, match="unit='word'.*choose one of token"):
        check_unit(SYMBOLS, "word", ("token",))
    with pytest.raises(CorruptionError, match="unit='word' needs words.*word_starts"):
        check_unit(dataclasses.replace(SYMBOLS, word_starts=None), "word")
    without = Symbols(mask_token=4, vocab_size=1000)
    assert check_unit(without, "token") == "token"
