"""SentencePiece models: reserved ids, symbols that cannot be typed, masks in prompts."""

import pytest

from denoise_jax.errors import DataError
from denoise_jax.vocabulary.load import load_vocabulary, vocabulary_from_files


@pytest.fixture(scope="module")
def own(vocabulary_folder):
    return load_vocabulary(vocabulary_folder)


def test_ids_0_to_3_are_reserved_and_the_mask_follows(own):
    assert [own.piece(i) for i in range(5)] == ["<pad>", "</s>", "<unk>", "<s>", "<mask>"]
    assert (own.mask_id, own.bos_id, own.start_id, own.opening_ids) == (4, 3, 3, ())
    assert set(range(7)) - {2} <= set(own.control_ids)
    assert len(own) == 512


def test_typed_symbols_are_text(own):
    typed = own.encode("a <mask> b </s> c <pad> d <s> e <rotation>")
    assert not set(typed) & set(own.control_ids)


def test_masks_of_a_prompt_become_ids(own):
    ids = own.encode_masked("The state of <mask> is <mask>")
    assert ids == [*own.encode("The state of"), 4, *own.encode("is"), 4]
    assert own.decode(ids) == "The state of is"


def test_no_space_is_added_after_a_mask(own):
    sentence = own.encode("our children.")
    assert own.encode_masked("our <mask>.") == [*own.encode("our"), 4, sentence[-1]]
    assert own.piece(sentence[-1]) == "."
    assert own.encode_masked("our <mask> children") == [*own.encode("our"), 4, *own.encode("children")]
    assert own.encode_masked("<mask>s")[1:] == [own.piece_id("s")]


def test_special_tokens_close_a_text_with_its_language(own):
    assert own.special_tokens() == ((), (1,), None)
    assert own.special_tokens("en_XX") == ((), (1, own.symbol_id("en_XX")), own.symbol_id("en_XX"))
    assert own.special_tokens("en_XX").size == 2
    with pytest.raises(DataError, match=r"source='xx' is not a control symbol of vocabulary .*tiny; train"):
        own.special_tokens("xx", field="source")
    with pytest.raises(DataError, match="language='the' is not a control symbol"):
        own.special_tokens("the")


def test_files_that_are_not_a_model_are_refused():
    with pytest.raises(DataError, match="vocabulary x is not a SentencePiece model"):
        vocabulary_from_files({"sentencepiece.model": b"not a model"}, "x")
