"""Units: tokens and words, against a reference that walks along the text."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.record import clean
from denoise_jax.corruption.symbols import Symbols
from denoise_jax.corruption.units import check_unit, units

TEXTS = st.lists(st.lists(st.sampled_from([1, 6, 10, 11, 12, 15, 900]), max_size=8), max_size=4)


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


@settings(max_examples=80)
@given(texts=TEXTS, unit=st.sampled_from(["token", "word"]))
def test_units_are_those_of_a_walk_along_the_text(symbols, texts, unit):
    ragged = tf.ragged.constant(texts, tf.int32, ragged_rank=1)
    found = units(symbols, clean(ragged), unit)
    of, sizes = walked(texts, symbols, unit)
    assert found.rows.sizes.numpy().tolist() == sizes
    assert found.eligible.numpy().tolist() == [unit is not None for unit in of]
    assert found.of.numpy().tolist() == [sum(sizes) if unit is None else unit for unit in of]
    spread = found.spread(1 + tf.range(sum(sizes)))
    assert spread.numpy().tolist() == [0 if unit is None else 1 + unit for unit in of]


def test_flags_spread_as_flags(symbols):
    found = units(symbols, clean(tf.constant([1, 10, 12, 11])), "word")
    assert found.spread(tf.constant([True, False])).numpy().tolist() == [False, True, True, False]


def test_only_the_columns_asked_for_belong_to_units(symbols):
    """A piece behind a column left out begins a word, whatever the table says."""
    noised = clean(tf.constant([10, 12, 15, 12]))
    found = units(symbols, noised, "word", tf.constant([True, False, True, True]))
    np.testing.assert_array_equal(found.of, [0, 2, 1, 1])


def test_unknown_units_and_words_that_nobody_can_tell_are_refused(symbols):
    assert check_unit(symbols, "word") == "word"
    with pytest.raises(CorruptionError, match="unit='line' is no unit of text; choose one of token, word"):
        check_unit(symbols, "line")
    with pytest.raises(CorruptionError, match="unit='word'.*choose one of token"):
        check_unit(symbols, "word", ("token",))
    with pytest.raises(CorruptionError, match="unit='word' asks for words.*word_starts"):
        check_unit(dataclasses.replace(symbols, word_starts=None), "word")
    without = Symbols(mask_token=4, vocab_size=1000)
    assert check_unit(without, "token") == "token"
