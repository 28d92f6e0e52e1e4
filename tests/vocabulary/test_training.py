"""Training SentencePiece models."""

import random

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


def test_no_line_is_too_long_and_no_character_hides_a_line(tmp_path, speeches):
    """SentencePiece itself skips lines of more than 1 MiB, and lines with U+2585."""
    rng = random.Random(0)
    lines = {
        "long, with spaces": " ".join(rng.choices(["состояние", "союза", "дороги"], k=45_000)),
        "long, without spaces": "".join(rng.choices("國情咨文演說的內容", k=360_000)),
        "its own mark": "κατάσταση της ένωσης \u2585",
        "NUL": "ситуация\0",
    }
    for name, line in lines.items():
        text = [speeches[0], "\n".join([line] * (1 if len(line) > 100 else 99))]
        own = train_sentencepiece(text, tmp_path / name, size=300, character_coverage=1.0)
        assert 2 not in own.encode(line[:16].strip("\0\u2585")), name


@pytest.mark.parametrize(
    ("symbol", "message"),
    [
        ("e", "control_symbols: 'e' is a single character"),
        ("e\u0301", "is a single character"),
        ("", "control_symbols: '' is a single character or none"),
        ("<unk>", "'<unk>' is reserved already"),
        ("\u2581the", "has a space"),
        ("<0x41>", "names a byte"),
    ],
)
def test_symbols_that_text_needs_are_refused(symbol, message, tmp_path, speeches):
    with pytest.raises(DataError, match=message):
        train_sentencepiece(speeches[:1], tmp_path / "v", size=300, control_symbols=[symbol])
    assert not (tmp_path / "v").exists()
