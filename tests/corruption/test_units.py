"""Units: tokens and words, against a reference that walks along the text."""

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


def walked(texts, symbols, unit):
    """Unit of each column, None where there is none, and the number of units of each text."""
    of, sizes, number = [], [], -1
    for text in texts:
        before, previous = number, None
        for token in text:
            if token in symbols.protected:
                of.append(None)
            else:
                inside = previous is not None and previous not in symbols.protected
                number += not (unit == "word" and inside and not symbols.word_starts[token])
                of.append(number)
            previous = token
        sizes.append(number - before)
    return of, sizes


@pytest.mark.parametrize("unit", ["token", "word"])
def test_units_are_those_of_a_loop_over_the_text(unit):
    found = units(SYMBOLS, batch_of(TEXTS), unit)
    of, sizes = walked(TEXTS, SYMBOLS, unit)
    assert found.partition.row_lengths.numpy().tolist() == sizes
    assert found.eligible.numpy().tolist() == [unit is not None for unit in of]
    assert found.unit_ids.numpy().tolist() == [sum(sizes) if unit is None else unit for unit in of]
    broadcast = found.broadcast(1 + tf.range(sum(sizes)))
    assert broadcast.numpy().tolist() == [0 if unit is None else 1 + unit for unit in of]


def test_what_noise_wrote_begins_a_word_where_its_text_did():
    """12 and 15 go on a word; masks and random tokens do as the text did, and insertions are words."""
    columns = [
        # id, source, span, op, unit
        (10, 1, 2, Op.KEEP, 0),
        (4, 2, 2, Op.MASK, 0),  # for 12
        (4, 3, 3, Op.MASK, 1),  # for 11, 15
        (12, 5, 2, Op.RANDOM, 2),  # for 13
        (4, 6, 1, Op.INSERT, 3),
        (15, 6, 2, Op.KEEP, 3),
        (10, 7, 1, Op.INSERT, 4),
    ]
    ids, source, span, op, of = (tf.constant(column, tf.int32) for column in zip(*columns, strict=True))
    noised = clean(tf.constant([10, 12, 11, 15, 13, 15]))
    noised = noised._replace(
        ids=ids,
        source=source,
        span=span,
        op=op,
        partition=RowPartition.from_row_lengths(tf.size(ids)[tf.newaxis]),
    )
    found = units(SYMBOLS, noised, "word", SYMBOLS.movable(noised))
    np.testing.assert_array_equal(found.unit_ids, of)


def test_masked_words_change_places_like_others():
    """Whole words masked, then all words in any order: a mask has its old left neighbour about once in 8."""
    words = chain(
        [
            token_masking(SYMBOLS, mask_prob=0.3, random_prob=0, keep_prob=0, whole_word=True),
            token_shuffling(SYMBOLS, shuffle_distance=None, unit="word"),
        ]
    )
    noised = clean(tf.constant([k for k in range(10, 22) if k % 3]))  # eight words of one piece
    masks = together = 0
    for example in draw_many(words, noised, 200):
        for place in np.flatnonzero(example.op == Op.MASK):
            masks += 1
            together += place > 0 and example.source[place - 1] == example.source[place] - 1
    assert masks == 600
    assert together < 0.2 * masks  # 1/8 expected, |z| of 5.5: a false alarm in 10^8


def test_flags_spread_as_flags():
    found = units(SYMBOLS, clean(tf.constant([1, 10, 12, 11])), "word")
    assert found.broadcast(tf.constant([True, False])).numpy().tolist() == [False, True, True, False]


def test_only_the_columns_asked_for_belong_to_units():
    """A piece behind a column left out begins a word, whatever the table says."""
    noised = clean(tf.constant([10, 12, 15, 12]))
    found = units(SYMBOLS, noised, "word", tf.constant([True, False, True, True]))
    np.testing.assert_array_equal(found.unit_ids, [0, 2, 1, 1])


def test_unknown_units_and_words_that_nobody_can_tell_are_refused():
    assert check_unit(SYMBOLS, "word") == "word"
    with pytest.raises(CorruptionError, match="unit='line' is unknown; choose one of token, word"):
        check_unit(SYMBOLS, "line")
    with pytest.raises(CorruptionError, match="unit='word'.*choose one of token"):
        check_unit(SYMBOLS, "word", ("token",))
    with pytest.raises(CorruptionError, match="unit='word' needs words.*word_starts"):
        check_unit(dataclasses.replace(SYMBOLS, word_starts=None), "word")
    without = Symbols(mask_token=4, vocab_size=1000)
    assert check_unit(without, "token") == "token"
