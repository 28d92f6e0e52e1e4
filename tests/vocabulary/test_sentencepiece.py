"""Vocabularies: reserved ids, symbols that cannot be typed, and clear refusals."""

import pytest

from denoise_jax.errors import DataError
from denoise_jax.vocabulary import training as vocabulary_training
from denoise_jax.vocabulary.load import load_vocabulary
from denoise_jax.vocabulary.seqio import seqio_vocabulary


def test_reserved_ids(vocabulary_folder):
    own = load_vocabulary(vocabulary_folder)
    assert [own.piece(i) for i in range(5)] == ["<pad>", "</s>", "<unk>", "<s>", "<mask>"]
    assert (own.mask_id, own.bos_id) == (4, 3)
    assert set(range(7)) - {2} <= set(own.control_ids)
    assert len(own) == 512


def test_typed_symbols_are_text(vocabulary_folder):
    own = load_vocabulary(vocabulary_folder)
    typed = own.encode("a <mask> b </s> c <pad> d <s> e <rotation>")
    assert not set(typed) & set(own.control_ids)
    seqio_ids = seqio_vocabulary(str(vocabulary_folder)).encode_tf("a <mask> b </s>").numpy().tolist()
    assert seqio_ids == own.encode("a <mask> b </s>")


def test_masks_of_a_prompt_become_ids(vocabulary_folder):
    own = load_vocabulary(vocabulary_folder)
    ids = own.encode_masked("The state of <mask> is <mask>")
    assert ids == [*own.encode("The state of"), 4, *own.encode("is"), 4]
    assert own.decode(ids) == "The state of is"


def test_no_space_is_put_between_a_mask_and_what_touches_it(vocabulary_folder):
    own = load_vocabulary(vocabulary_folder)
    whole = own.encode("our children.")
    assert own.encode_masked("our <mask>.") == [*own.encode("our"), 4, whole[-1]]
    assert own.piece(whole[-1]) == "."
    assert own.encode_masked("our <mask> children") == [*own.encode("our"), 4, *own.encode("children")]
    assert own.encode_masked("<mask>s")[1:] == [own.processor.piece_to_id("s")]


def test_training_is_reproducible(tmp_path, speeches, vocabulary_folder):
    again = vocabulary_training.train(
        speeches, tmp_path / "again", size=512, sentinels=24, control_symbols=["en_XX"]
    )
    assert again.fingerprint() == load_vocabulary(vocabulary_folder).fingerprint()


def test_control_symbols_can_be_added(tmp_path, speeches):
    own = vocabulary_training.train(
        speeches, tmp_path / "own", size=512, control_symbols=["<2fr>", "<2fr>", "[R]"]
    )
    assert own.symbol_id("<2fr>") in own.control_ids
    assert own.symbol_id("<2fr>") not in own.encode("<2fr> text")
    assert own.mode_ids["[R]"] == own.symbol_id("[R]"), "asked for again, there once"


def test_words_begin_at_spaces_and_at_letters_of_scripts_without(tmp_path):
    text = [
        "the state of the union",
        "国情咨文演说",
        "連邦の現状について",
        "สถานะของสหภาพ",
        "состояние союза",
    ] * 20
    own = vocabulary_training.train(
        text, tmp_path / "scripts", size=90, model_type="bpe", character_coverage=1.0
    )
    starts = {own.piece(i): flag for i, flag in enumerate(own.word_starts.tolist())}
    assert starts["▁the"] and starts["▁"]
    assert all(starts[piece] for piece in "国情の現ส")
    assert not any(starts[piece] for piece in ("e", "с", "<mask>", "</s>"))


def test_refusals(tmp_path, speeches):
    with pytest.raises(DataError, match="no vocabulary at .*denoise-jax vocab"):
        load_vocabulary(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no text"):
        vocabulary_training.train(["", "  \n"], tmp_path / "empty", size=64)
    with pytest.raises(DataError, match="size=900000"):
        vocabulary_training.train(speeches[:1], tmp_path / "large", size=900_000)
    assert list(tmp_path.iterdir()) == [], "a refused training leaves nothing"
    broken = tmp_path / "broken.model"
    broken.write_bytes(b"not a model")
    with pytest.raises(DataError, match="is not a SentencePiece model"):
        load_vocabulary(broken)
