"""Noised texts as pieces: the provenance shown is that of the noise, in words and in vocabularies."""

import pytest

from denoise_jax.corruption.presets import PRESETS
from denoise_jax.corruption.record import Op, TargetNoise
from denoise_jax.data import registry
from denoise_jax.errors import DataError
from denoise_jax.inspection.examples import corrupt, read_examples, text_vocabulary
from denoise_jax.vocabulary.load import load_vocabulary

TEXT = "Fellow citizens, I come before you. The union is strong! We shall build new roads. Let us go on."


@pytest.mark.parametrize("corruption", PRESETS)
def test_every_preset_corrupts_words(corruption):
    example = corrupt(TEXT, corruption, seed=5)
    assert [piece.removeprefix("▁") for piece in example.text] == TEXT.split()
    assert (
        len(example.inputs)
        == len(example.inputs_op)
        == len(example.inputs_source)
        == len(example.inputs_span)
        > 0
    )
    assert len(example.targets) == len(example.targets_source) == len(example.targets_kind)
    columns = list(zip(example.inputs, example.inputs_op, example.inputs_source, strict=True))
    kept = [(piece, source) for piece, op, source in columns if op == Op.KEEP]
    assert all(piece == example.text[source - 1] for piece, source in kept)
    visible = [p for p, noise in enumerate(example.text_noise, 1) if noise == TargetNoise.VISIBLE]
    assert sorted(source for _, source in kept) == visible
    assert sum(span - 1 for span in example.inputs_span) == len(example.text) - example.text_noise.count(
        TargetNoise.DELETED
    )
    assert corrupt(TEXT, corruption, seed=5) == example


def test_seeds_give_different_noise():
    assert len({tuple(corrupt(TEXT, seed=seed).inputs) for seed in range(5)}) > 1


@pytest.mark.parametrize("name", ["vocabulary_folder", "bart_folder"])
def test_a_text_has_the_pieces_that_a_model_is_trained_on(name, request):
    text, folder = "One here. Two there.", request.getfixturevalue(name)
    vocabulary = load_vocabulary(folder)
    example = corrupt(text, "none", vocabulary=vocabulary)
    assert example.inputs == example.text == example.targets
    assert example.text == [vocabulary.piece(i) for i in vocabulary.encode(text)]
    assert corrupt(text, "none", vocabulary=folder) == example, "a path will do"


@pytest.mark.parametrize("text", ["", " \n ", "\u3000", "\u200b\n\ufeff \u00ad", "\x1c\x85"])
def test_texts_without_a_visible_character_are_refused(vocabulary_folder, text):
    for vocabulary in (None, load_vocabulary(vocabulary_folder)):
        with pytest.raises(DataError, match="no text to corrupt"):
            corrupt(text, vocabulary=vocabulary)


def test_invisible_words_are_not_tokens():
    assert corrupt("we \u200b shall \u3000 build", "none").text == ["▁we", "▁shall", "▁build"]


def test_unknown_presets_are_refused():
    with pytest.raises(DataError, match=r"corruption='bart_papr' is unknown; did you mean bart_paper"):
        corrupt(TEXT, "bart_papr")


def test_examples_of_a_task_are_in_readable_pieces(bart_folder, monkeypatch):
    found = registry.find_task("quickstart", ["tasks"], load_vocabulary(bart_folder))
    monkeypatch.setattr(registry, "find_task", lambda name, modules: found)
    (example,) = read_examples("quickstart", length=32, max_examples=1)
    assert (example.text[0], example.inputs[0], example.targets[-1]) == ("<s>", "<s>", "</s>")
    assert len(example.targets) <= 32
    assert any(piece.startswith("▁") for piece in example.text)
    assert not any(piece.startswith("Ġ") for piece in example.text)


def test_tasks_without_text_or_noise_are_refused():
    with pytest.raises(
        DataError, match="'quickstart_century_classes': a PassThroughVocabulary has no pieces"
    ):
        text_vocabulary(registry.find_task("quickstart_century_classes", ["tasks"]))
