"""fairseq's flags: what each does, the defaults of BART's command, and errors under the flags' names.

Seeds are fixed. False-alarm rates say how unlikely a failure by chance is after a change of the noise.
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
from tests.corruption.helpers import SYMBOLS, chi_square, draw_many, text_of

STILL = {"permute_sentences": 0.0}  # sentences keep their order


def hidden(examples):
    """Share of hidden target tokens of each example."""
    return np.array([np.mean(example.target_noise == TargetNoise.COVERED) for example in examples])


def test_the_defaults_are_the_preset():
    noised = text_of(9, 12, 7, 12)
    examples = draw_many(bart_denoising(SYMBOLS), noised, 50)
    np.testing.assert_equal(examples, draw_many(presets.build("bart_fairseq", SYMBOLS), noised, 50))


def test_the_defaults_are_barts_command():
    """Complete sentences in all 24 orders, so no rotation; one mask in ten random, within 4 standard errors
    (1 in 16,000); no insertions but the empty spans of the Poisson distribution."""
    examples, orders = draw_many(bart_denoising(SYMBOLS), text_of(10, 10, 10, 10), 400), set()
    for example in examples:
        source = example.source[example.op == Op.KEEP]
        sentences = example.sentence_ids[source - 1]
        order = [number for number, _ in itertools.groupby(sentences.tolist())]
        assert len(order) == len(set(order))
        assert (np.diff(source)[np.diff(sentences) == 0] > 0).all()
        orders.add(tuple(order))
    assert orders >= set(itertools.permutations((1, 2, 3, 4)))
    ops = np.concatenate([example.op[(example.op != Op.KEEP) & (example.span > 1)] for example in examples])
    assert abs(np.mean(ops == Op.RANDOM) - 0.1) < 4 * math.sqrt(0.09 / len(ops))


@pytest.mark.parametrize(("placement", "share"), [("overlap", 0.2668), ("roll", 0.3)])
def test_spans_of_words_hide_as_much_as_in_fairseq(placement, share):
    """26.68 % of 512 one-token words, as measured on 40,000 examples, against 26.62 % in the limit of long
    texts (see test_infilling.py): within 0.3 points, 4.9 standard errors of 300 examples with a standard
    deviation of 1.06 points (1 false alarm in a million). On a ring exactly 30 %, rounded up, of every
    example."""
    words = dataclasses.replace(SYMBOLS, word_starts=np.ones(1000, bool))
    examples = draw_many(bart_denoising(words, placement=placement), text_of(512), 300)
    assert abs(hidden(examples).mean() - share) < 0.003
    if placement == "roll":
        assert set(hidden(examples).tolist()) == {math.ceil(0.3 * 512) / 512}


def test_subword_masks_are_single_tokens():
    """Exactly ceil(0.3 x 20); among 300 examples some hide part of a word."""
    examples = draw_many(bart_denoising(SYMBOLS, mask_length="subword"), text_of(20), 300)
    assert {(example.target_noise == TargetNoise.COVERED).sum() for example in examples} == {6}
    assert all((example.span == 2).all() for example in examples)
    begins = np.array(SYMBOLS.word_starts)[examples[0].targets]
    assert any(
        (example.target_noise[~begins] != example.target_noise[:-1][~begins[1:]]).any()
        for example in examples
    )


def test_word_masks_are_single_words():
    """Each hidden word, of one or two tokens, becomes one mask; ceil(0.3 x words) are hidden."""
    examples = draw_many(bart_denoising(SYMBOLS, mask_length="word", **STILL), text_of(30), 100)
    begins = np.array(SYMBOLS.word_starts)[examples[0].targets]
    begins[0] = True
    word = np.cumsum(begins)
    for example in examples:
        masked = set(word[example.target_noise == TargetNoise.COVERED].tolist())
        assert len(masked) == math.ceil(0.3 * word[-1]) == np.sum(example.op != Op.KEEP)
        np.testing.assert_array_equal(
            np.isin(word, list(masked)), example.target_noise == TargetNoise.COVERED
        )


@pytest.mark.parametrize("mask_length", ["word", "span-poisson"])
def test_units_are_tokens_if_word_starts_are_unknown(mask_length):
    nothing = dataclasses.replace(SYMBOLS, word_starts=None)
    single = dataclasses.replace(SYMBOLS, word_starts=np.ones(1000, bool))
    examples = [
        draw_many(bart_denoising(s, mask_length=mask_length), text_of(9, 12), 30) for s in (nothing, single)
    ]
    np.testing.assert_equal(*examples)


@pytest.mark.parametrize(("replace_length", "length"), [(1, None), (0, 28), (-1, 40)])
def test_replace_length(replace_length, length):
    """One mask per span, none, or one per token; 12 of 40 tokens are hidden on a ring."""
    options = {"mask_length": "subword", "placement": "roll", "mask_random": 0.0, **STILL}
    for example in draw_many(
        bart_denoising(SYMBOLS, replace_length=replace_length, **options), text_of(40), 30
    ):
        assert len(example.ids) == (length or 40)
        assert (example.target_noise == TargetNoise.VISIBLE).sum() == 28


def test_insert_adds_masks_and_random_tokens():
    """ceil(0.2 x 20) = 4 insertions, each random independently: half of 800 within 4 standard errors (1 in
    16,000)."""
    examples = draw_many(
        bart_denoising(SYMBOLS, mask=0.0, insert=0.2, mask_random=0.5, **STILL), text_of(20), 200
    )
    new = np.concatenate([example.ids[example.op == Op.INSERT] for example in examples])
    assert {len(example.ids) for example in examples} == {24}
    assert len(new) == 800
    assert abs(np.mean(new == SYMBOLS.mask_token) - 0.5) < 4 * math.sqrt(0.25 / 800)


def test_rotate_rotates_that_share_of_the_texts():
    """Half of 4,000, all rotations equally likely: the identity has probability 0.5 + 0.05. p > 1e-4."""
    examples = draw_many(bart_denoising(SYMBOLS, mask=0.0, rotate=0.5, **STILL), text_of(10), 4000)
    first = np.array([example.ids[0] - 10 for example in examples])
    for example, pivot in zip(examples, first, strict=True):
        np.testing.assert_array_equal(example.ids, np.roll(example.targets, -pivot))
    assert chi_square(np.bincount(first, minlength=10), [0.55, *[0.05] * 9]) > 1e-4


def test_zero_rates_change_nothing():
    for example in draw_many(bart_denoising(SYMBOLS, mask=0.0, **STILL), text_of(5, 6), 20):
        np.testing.assert_array_equal(example.ids, example.targets)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(
            ({field: value}, f"^{field}={shown} must lie between 0 and 1")
            for field in ("mask", "insert", "rotate", "mask_random", "permute_sentences")
            for value, shown in (
                (1.5, "1.5"),
                (-1, "-1"),
                (math.nan, "nan"),
                ("0.3", "'0.3'"),
                (None, "None"),
            )
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
def test_errors_name_the_flag(options, message):
    with pytest.raises(CorruptionError, match=message):
        bart_denoising(SYMBOLS, **options)
