"""Training SentencePiece models."""

import pytest

from denoise_jax.errors import DataError
from denoise_jax.vocabulary.load import load_vocabulary
from denoise_jax.vocabulary.training import train_sentencepiece


def test_training_is_reproducible(tmp_path, speeches, vocabulary_folder):
    again = train_sentencepiece(
        speeches, tmp_path / "again", size=512, sentinels=24, control_symbols=["en_XX"]
    )
    assert again == load_vocabulary(vocabulary_folder) == load_vocabulary(tmp_path / "again")


def test_control_symbols_can_be_added(tmp_path, speeches):
    own = train_sentencepiece(
        speeches[:1], tmp_path / "own", size=300, control_symbols=["<2fr>", "<2fr>", "[R]"]
    )
    assert own.symbol_id("<2fr>") in own.control_ids
    assert own.symbol_id("<2fr>") not in own.encode("<2fr> text")
    assert own.mode_ids["[R]"] == own.symbol_id("[R]"), "given again, it appears once"


def test_words_start_at_spaces_and_at_letters_of_scripts_without_spaces(tmp_path):
    text = [
        "the state of the union",
        "国情咨文演说",
        "連邦の現状について",
        "สถานะของสหภาพ",
        "состояние союза",
    ] * 20
    own = train_sentencepiece(text, tmp_path / "scripts", size=90, model_type="bpe", character_coverage=1.0)
    starts = {own.piece(i): flag for i, flag in enumerate(own.word_starts.tolist())}
    assert starts["▁the"] and starts["▁"]
    assert all(starts[piece] for piece in "国情の現ส")
    assert not any(starts[piece] for piece in ("e", "с", "<mask>", "</s>"))


def test_impossible_training_is_refused_and_leaves_nothing(tmp_path, speeches):
    with pytest.raises(DataError, match="no text"):
        train_sentencepiece(["", "  \n"], tmp_path / "empty", size=64)
    with pytest.raises(DataError, match="size=900000"):
        train_sentencepiece(speeches[:1], tmp_path / "large", size=900_000)
    assert list(tmp_path.iterdir()) == []
