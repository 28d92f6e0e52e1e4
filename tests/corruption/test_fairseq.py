"""fairseq's flags: what each does, the defaults of BART's command, and refusals under the flags' names.

Seeds are fixed; false-alarm rates say how surprising a failure after a change would be.
"""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from denoise_jax.corruption import presets
from denoise_jax.corruption.fairseq import bart_denoising
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.record import Op, TargetNoise

STILL = {"permute_sentences": 0.0}  # sentences stay where they are


def hidden(rows):
    """Share of hidden target tokens in each example: [e]."""
    return np.array([np.mean(row.target_noise == TargetNoise.COVERED) for row in rows])


def test_the_defaults_are_the_preset(symbols, text, draw_many):
    noised = text(9, 12, 7, 12)
    rows = draw_many(bart_denoising(symbols), noised, 50)
    np.testing.assert_equal(rows, draw_many(presets.build("bart_fairseq", symbols), noised, 50))


def test_the_defaults_are_barts_command(symbols, text, draw_many):
    """Sentences in all 24 orders, each whole, so that no text is rotated; one mask in ten random, within 4
    standard errors (1 in 16,000); none inserted but for Poisson's own empty spans, which hide nothing."""
    rows, orders = draw_many(bart_denoising(symbols), text(10, 10, 10, 10), 400), set()
    for row in rows:
        source = row.source[row.op == Op.KEEP]
        sentences = row.sentence_ids[source - 1]
        order = [number for number, _ in itertools.groupby(sentences.tolist())]
        assert len(order) == len(set(order))
        assert (np.diff(source)[np.diff(sentences) == 0] > 0).all()
        orders.add(tuple(order))
    assert orders >= set(itertools.permutations((1, 2, 3, 4)))
    ops = np.concatenate([row.op[(row.op != Op.KEEP) & (row.span > 1)] for row in rows])
    assert abs(np.mean(ops == Op.RANDOM) - 0.1) < 4 * math.sqrt(0.09 / len(ops))


@pytest.mark.parametrize(("placement", "share"), [("overlap", 0.2668), ("roll", 0.3)])
def test_spans_over_words_hide_as_much_as_fairseq_does(symbols, text, draw_many, placement, share):
    """26.68 % of 512 tokens, each a word, as 40,000 examples give it and 26.62 % of an endless text (see
    test_infilling.py): within 0.3 points, 4.9 standard errors of 300 examples, whose shares deviate by 1.06
    points (1 false alarm in a million). On a ring 30 %, rounded up, in every example."""
    words = dataclasses.replace(symbols, word_starts=np.ones(1000, bool))
    rows = draw_many(bart_denoising(words, placement=placement), text(512), 300)
    assert abs(hidden(rows).mean() - share) < 0.003
    if placement == "roll":
        assert set(hidden(rows).tolist()) == {math.ceil(0.3 * 512) / 512}


def test_subword_masks_are_single_tokens(symbols, text, draw_many):
    """Exactly ceil(0.3 x 20); of 300 examples some hide part of a word."""
    rows = draw_many(bart_denoising(symbols, mask_length="subword"), text(20), 300)
    assert {(row.target_noise == TargetNoise.COVERED).sum() for row in rows} == {6}
    assert all((row.span == 2).all() for row in rows)
    begins = np.array(symbols.word_starts)[rows[0].targets]
    assert any((row.target_noise[~begins] != row.target_noise[:-1][~begins[1:]]).any() for row in rows)


def test_word_masks_are_single_words(symbols, text, draw_many):
    """Every word of two tokens or one behind a mask of its own, ceil(0.3 x words) of them."""
    rows = draw_many(bart_denoising(symbols, mask_length="word", **STILL), text(30), 100)
    begins = np.array(symbols.word_starts)[rows[0].targets]
    begins[0] = True
    word = np.cumsum(begins)
    for row in rows:
        masked = set(word[row.target_noise == TargetNoise.COVERED].tolist())
        assert len(masked) == math.ceil(0.3 * word[-1]) == np.sum(row.op != Op.KEEP)
        np.testing.assert_array_equal(np.isin(word, list(masked)), row.target_noise == TargetNoise.COVERED)


@pytest.mark.parametrize("mask_length", ["word", "span-poisson"])
def test_tokens_where_nothing_tells_of_words(symbols, text, draw_many, mask_length):
    nothing = dataclasses.replace(symbols, word_starts=None)
    single = dataclasses.replace(symbols, word_starts=np.ones(1000, bool))
    rows = [draw_many(bart_denoising(s, mask_length=mask_length), text(9, 12), 30) for s in (nothing, single)]
    np.testing.assert_equal(*rows)


@pytest.mark.parametrize(("replace_length", "length"), [(1, None), (0, 28), (-1, 40)])
def test_replace_length(symbols, text, draw_many, replace_length, length):
    """One mask a span, none at all, or one a token: 12 of 40 are hidden, on a ring."""
    options = {"mask_length": "subword", "placement": "roll", "mask_random": 0.0, **STILL}
    for row in draw_many(bart_denoising(symbols, replace_length=replace_length, **options), text(40), 30):
        assert len(row.ids) == (length or 40)
        assert (row.target_noise == TargetNoise.VISIBLE).sum() == 28


def test_insert_adds_tokens_behind_the_masks(symbols, text, draw_many):
    """ceil(0.2 x 20) = 4 new ones, where nothing is masked; each random by itself, half of 800 within 4
    standard errors (1 in 16,000)."""
    rows = draw_many(bart_denoising(symbols, mask=0.0, insert=0.2, mask_random=0.5, **STILL), text(20), 200)
    new = np.concatenate([row.ids[row.op == Op.INSERT] for row in rows])
    assert {len(row.ids) for row in rows} == {24}
    assert len(new) == 800
    assert abs(np.mean(new == symbols.mask_token) - 0.5) < 4 * math.sqrt(0.25 / 800)


def test_rotate_turns_that_share_of_the_texts(symbols, text, draw_many, chi_square):
    """0.5 of 4,000, every pivot alike: the identity has .5 + .05. p above 1e-4, the false-alarm rate."""
    rows = draw_many(bart_denoising(symbols, mask=0.0, rotate=0.5, **STILL), text(10), 4000)
    first = np.array([row.ids[0] - 10 for row in rows])
    for row, pivot in zip(rows, first, strict=True):
        np.testing.assert_array_equal(row.ids, np.roll(row.targets, -pivot))
    assert chi_square(np.bincount(first, minlength=10), [0.55, *[0.05] * 9]) > 1e-4


def test_nothing_asked_for_is_the_identity(symbols, text, draw_many):
    for row in draw_many(bart_denoising(symbols, mask=0.0, **STILL), text(5, 6), 20):
        np.testing.assert_array_equal(row.ids, row.targets)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(
            ({field: value}, f"^{field}={told} must lie between 0 and 1")
            for field in ("mask", "insert", "rotate", "mask_random", "permute_sentences")
            for value, told in ((1.5, "1.5"), (-1, "-1"), (math.nan, "nan"), ("0.3", "'0.3'"), (None, "None"))
        ),
        ({"poisson_lambda": 0.0}, r"^poisson_lambda=0.0 must lie in 1 \.\.\. 1000"),
        ({"poisson_lambda": math.inf}, r"^poisson_lambda=inf must lie"),
        ({"poisson_lambda": "3"}, r"^poisson_lambda='3' must lie"),
        ({"poisson_lambda": None, "mask_length": "word"}, r"^poisson_lambda=None must lie"),
        (
            {"mask_length": "span"},
            "^mask_length='span' is unknown; choose one of subword, word, span-poisson",
        ),
        ({"replace_length": 2}, "^replace_length=2 must be 1, 0 or -1"),
        ({"placement": "spiral", "mask_length": "word"}, "^placement='spiral' is unknown"),
    ],
)
def test_refusals_name_the_flag_that_was_given(symbols, options, message):
    with pytest.raises(CorruptionError, match=message):
        bart_denoising(symbols, **options)
