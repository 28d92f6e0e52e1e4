"""Noised texts as pieces: what people are shown is what the noise did, in words and in vocabularies."""

import pytest

from denoise_jax.corruption.presets import PRESETS
from denoise_jax.corruption.record import Op, TargetNoise
from denoise_jax.errors import DataError
from denoise_jax.inspection.examples import TextNoise
from denoise_jax.vocabulary.load import load_vocabulary

TEXT = "Fellow citizens, I come before you. The union is strong! We shall build new roads. Let us go on."


@pytest.fixture(scope="module")
def noise():
    return TextNoise(TEXT)


@pytest.mark.parametrize("corruption", PRESETS)
def test_every_preset_works_on_words(noise, corruption):
    seen = noise.under(corruption, seed=5)
    assert [piece.removeprefix("▁") for piece in seen.text] == TEXT.split()
    assert len(seen.inputs) == len(seen.inputs_op) == len(seen.inputs_source) == len(seen.inputs_span) > 0
    assert len(seen.targets) == len(seen.targets_source) == len(seen.targets_kind)
    columns = list(zip(seen.inputs, seen.inputs_op, seen.inputs_source, strict=True))
    kept = [(piece, source) for piece, op, source in columns if op == Op.KEEP]
    assert all(piece == seen.text[source - 1] for piece, source in kept)
    visible = [p for p, noise in enumerate(seen.text_noise, 1) if noise == TargetNoise.VISIBLE]
    assert sorted(source for _, source in kept) == visible
    assert sum(span - 1 for span in seen.inputs_span) == len(seen.text) - seen.text_noise.count(
        TargetNoise.DELETED
    )
    assert noise.under(corruption, seed=5) == seen


def test_seeds_differ(noise):
    assert len({tuple(noise.under("bart_paper", seed).inputs) for seed in range(5)}) > 1


def test_pieces_of_a_vocabulary(vocabulary_folder):
    vocabulary = load_vocabulary(vocabulary_folder)
    seen = TextNoise("We shall build new roads.", vocabulary).under("none", 0)
    assert seen.inputs == seen.text == seen.targets
    assert seen.text == [vocabulary.piece(i) for i in vocabulary.encode("We shall build new roads.")]


@pytest.mark.parametrize("text", ["", " \n ", "\u3000", "\u200b\n\ufeff \u00ad", "\x1c\x85"])
def test_no_text(vocabulary_folder, text):
    for vocabulary in (None, load_vocabulary(vocabulary_folder)):
        with pytest.raises(DataError, match="no text to corrupt"):
            TextNoise(text, vocabulary)


def test_words_that_are_not_seen_are_no_tokens():
    assert TextNoise("we \u200b shall \u3000 build").under("none", 0).text == ["▁we", "▁shall", "▁build"]


def test_unknown_preset(noise):
    with pytest.raises(DataError, match=r"--corruption bart_papr: .*did you mean bart_paper"):
        noise.under("bart_papr", 0)
