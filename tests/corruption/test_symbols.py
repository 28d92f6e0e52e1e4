"""Special tokens: what is protected, what moves, what is drawn, and errors. Seeds are fixed. False-alarm
rates say how unlikely a failure by chance is after a change of the noise."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.record import Op, clean
from denoise_jax.corruption.row_partition import RowPartition
from denoise_jax.corruption.symbols import Symbols
from tests.corruption.helpers import SYMBOLS, chi_square


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask_token": 1000}, "mask_token=1000 .* between 1 and vocab_size - 1 = 999"),
        ({"mask_token": 0}, "mask_token=0 .* other than 0"),
        ({"mask_token": None}, "mask_token=None"),
        ({"mask_token": "4"}, "mask_token='4'"),
        ({"mask_token": True}, "mask_token=True"),
        ({"vocab_size": None}, "vocab_size=None"),
        ({"protected": ("1",)}, "protected='1'"),
        ({"mask_token": -1}, "mask_token=-1"),
        ({"vocab_size": 1}, "vocab_size=1 .* 2 or more"),
        ({"protected": (0, 1000)}, "protected=1000"),
        ({"protected": (-1,)}, "protected=-1"),
        ({"separator": 1000}, "separator=1000"),
        ({"separator": 0}, "separator=0"),
        ({"sentinels": (900, 901, 900)}, "sentinels=900 is also the id of sentinels"),
        ({"sentinels": (4,)}, "sentinels=4 is also the id of mask_token"),
        ({"modes": {"[R]": 900}, "sentinels": (900,)}, "modes=900 is also the id of sentinels"),
        ({"rotation_token": 1000}, "rotation_token=1000"),
        ({"sentinels": (999, 1000)}, "sentinels=1000"),
        ({"modes": {"[R]": 1000}}, "modes=1000"),
        ({"word_starts": np.ones(999, bool)}, r"word_starts has shape \(999,\).*1000"),
        ({"vocab_size": 6, "protected": (0, 1, 2, 3, 5)}, "leaves no id for text"),
    ],
)
def test_symbols_that_do_not_fit_the_vocabulary_are_refused(fields, message):
    with pytest.raises(CorruptionError, match=message):
        Symbols(**({"mask_token": 4, "vocab_size": 1000} | fields))


def test_every_special_token_is_protected():
    named = {0, 1, 2, 3, 4, 5, 6, 800, 801, 802, *range(900, 1000)}
    assert SYMBOLS.protected == tuple(sorted(named))
    assert set(SYMBOLS.text_ids.tolist()) == set(range(1000)) - named
    assert SYMBOLS.text_ids.dtype == np.int32
    assert Symbols(mask_token=4, vocab_size=6).text_ids.tolist() == [1, 2, 3, 5], "id 0 is padding"


def test_random_ids_are_uniform_over_text():
    """p > 1e-4; the smallest and the largest draw give valid ids too."""
    symbols = Symbols(mask_token=4, vocab_size=20, protected=(0, 1, 2), sentinels=(18, 19))
    draws = draw(tf.constant([3], tf.int64), "ids", RowPartition.from_row_lengths(tf.constant([14_000])))
    ids = symbols.random_ids(tf.concat([draws, [-(2**31), 2**31 - 1, 0, -1]], 0)).numpy()
    assert set(ids.tolist()) == set(symbols.text_ids.tolist())
    assert chi_square(np.bincount(ids, minlength=20)[symbols.text_ids], 1 / 14) > 1e-4


def test_eligible_and_movable_tokens():
    tokens = [
        # id, op, span, eligible, movable
        (1, Op.KEEP, 2, False, False),
        (10, Op.KEEP, 2, True, True),
        (6, Op.KEEP, 2, False, True),
        (4, Op.MASK, 4, False, True),
        (900, Op.SENTINEL, 3, False, True),
        (5, Op.SENTINEL, 1, False, False),
        (11, Op.RANDOM, 2, False, True),
        (12, Op.INSERT, 1, False, True),
        (5, Op.KEEP, 2, False, False),
    ]
    ids, ops, spans, eligible, movable = map(list, zip(*tokens, strict=True))
    noised = clean(tf.constant(ids))._replace(op=tf.constant(ops, tf.int32), span=tf.constant(spans))
    assert SYMBOLS.eligible(noised).numpy().tolist() == eligible
    assert SYMBOLS.movable(noised).numpy().tolist() == movable


def test_ids_outside_the_vocabulary_fail_at_run_time():
    with pytest.raises(tf.errors.InvalidArgumentError):
        SYMBOLS.eligible(clean(tf.constant([10, 1000])))


def test_unknown_words_and_modes_are_refused():
    begins = SYMBOLS.begins_word(tf.constant([9, 10, 11, 12]), "unit")
    assert begins.numpy().tolist() == [False, True, True, False]
    with pytest.raises(CorruptionError, match="whole_word needs words.*give word_starts"):
        dataclasses.replace(SYMBOLS, word_starts=None).begins_word(tf.constant([10]), "whole_word")
    assert SYMBOLS.mode("[S]") == 801
    with pytest.raises(CorruptionError, match=r"mode_token='\[Q\]' is not in the vocabulary"):
        SYMBOLS.mode("[Q]")
    with pytest.raises(CorruptionError, match=r"mode_token='\[R\]'.*it has none"):
        Symbols(mask_token=4, vocab_size=9).mode("[R]")
