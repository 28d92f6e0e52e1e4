"""Tokenizers from Hugging Face: the same tokens under our ids, symbols that cannot be typed, refusals."""

import json
import shutil

import numpy as np
import pytest
from tokenizers import Tokenizer

from denoise_jax.errors import DataError
from denoise_jax.vocabulary.load import load_vocabulary, vocabulary_from_files

TYPED = "a <mask> b </s> c <pad> d <s> e <unk> en_XX<mask>"
TEXTS = [
    "The state of the Union",
    "",
    " ",
    "  naïve 国情 😀\n\tend ",
    "it's 1,234.5 -- \u201cso\u201d",
    TYPED,
]


def hf_tokenizer(folder):
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(params=["bart_folder", "mbart_folder"])
def folder(request):
    return request.getfixturevalue(request.param)


def test_ids_are_in_our_order(bart_folder):
    own = load_vocabulary(bart_folder)
    assert [own.piece(i) for i in range(4)] == ["<pad>", "</s>", "<unk>", "<s>"]
    np.testing.assert_array_equal(own.hf_ids, [1, 2, 3, 0, *range(4, 600)])
    assert own.hf_ids.dtype == np.int32
    assert (len(own), own.mask_id, own.bos_id, own.start_id, own.opening_ids) == (600, 599, 3, 1, (3,))
    assert own.control_ids == (0, 1, 3, 599)


def test_mbart_has_languages_as_symbols_and_opens_texts_with_nothing(mbart_folder):
    own = load_vocabulary(mbart_folder)
    assert own.opening_ids == ()
    assert own.symbol_id("en_XX") in own.control_ids
    assert own.symbol_id("the") is None
    assert own.piece(own.symbol_id("ro_RO")) == "ro_RO"


def test_text_has_the_ids_of_hugging_face_and_decodes_alike(folder, speeches):
    own, theirs = load_vocabulary(folder), hf_tokenizer(folder)
    theirs.encode_special_tokens = True
    for text in [*TEXTS[:-1], *speeches]:
        ids = own.encode(text)
        assert own.hf_ids[ids].tolist() == theirs.encode(text, add_special_tokens=False).ids
        assert own.decode(ids) == theirs.decode(own.hf_ids[ids].tolist(), skip_special_tokens=False)


def test_byte_level_text_survives_encoding_and_decoding(bart_folder):
    own = load_vocabulary(bart_folder)
    assert [own.decode([3, *own.encode(text), 599, 1, 0]) for text in TEXTS] == TEXTS


def test_typed_symbols_are_text(folder):
    own = load_vocabulary(folder)
    typed = own.encode(TYPED)
    assert typed
    assert not set(typed) & set(own.control_ids)
    assert set(hf_tokenizer(folder).encode(TYPED).ids) >= {0, 1, 2}, (
        "the tokenizer itself treats them as symbols"
    )


MASKED = (
    "The <mask> is",
    "<mask> of",
    "our <mask>.",
    "We live in <mask> .",
    "<mask>",
    "a<mask><mask>b",
    "a <mask> <mask>  b ",
)


@pytest.mark.parametrize("sides", [{}, {"lstrip": False}, {"rstrip": True}], ids=str)
def test_masks_of_a_prompt_have_the_ids_of_hugging_face(folder, tmp_path, sides):
    """Which spaces belong to a mask is said in the tokenizer's file."""
    changed = shutil.copytree(folder, tmp_path / "changed")
    parts = json.loads((changed / "tokenizer.json").read_text())
    for token in parts["added_tokens"]:
        token.update(sides if token["content"] == "<mask>" else {})
    (changed / "tokenizer.json").write_text(json.dumps(parts))
    own, theirs = load_vocabulary(changed), hf_tokenizer(changed)
    for text in MASKED:
        ids = own.hf_ids[own.encode_masked(text)].tolist()
        assert ids == theirs.encode(text, add_special_tokens=False).ids, text


def test_only_the_mask_is_read_as_a_symbol(folder):
    own = load_vocabulary(folder)
    ids = own.encode_masked(TYPED)
    assert {*ids} & {*own.control_ids} == {own.mask_id}
    assert ids.count(own.mask_id) == TYPED.count("<mask>")


def test_pieces_are_readable_and_word_starts_are_known(bart_folder):
    own = load_vocabulary(bart_folder)
    pieces = [own.piece(i) for i in own.encode("The state of é")]
    assert "".join(pieces) == "The▁state▁of▁\\xc3\\xa9"
    assert own.decode_pieces(pieces) == "The state of é"
    starts = {own.piece(i): flag for i, flag in enumerate(own.word_starts.tolist())}
    assert starts["▁the"]
    assert starts["▁"]
    assert not any(starts[piece] for piece in ("e", "<mask>", "</s>", "\\xc3"))
    assert own.piece_id("é") is None, "the character that encodes a byte is not a piece"


def test_the_fingerprint_depends_on_the_roles_of_tokens(folder):
    own = load_vocabulary(folder)
    files = own.files()
    info = json.loads(files["vocabulary.json"]) | {"opening": ["</s>"]}
    changed = vocabulary_from_files({**files, "vocabulary.json": json.dumps(info).encode()})
    assert changed != own and changed.opening_ids == (1,)


def test_vocabulary_folders_that_are_not_complete_are_refused(bart_folder, tmp_path):
    broken = shutil.copytree(bart_folder, tmp_path / "broken")
    (broken / "vocabulary.json").write_text('{"pad": "<pad>", "eos": "</s>", "unk": "<unk>", "bos": "<bos>"}')
    with pytest.raises(DataError, match="vocabulary.json: bos='<bos>' is not a token"):
        load_vocabulary(broken)
    (broken / "vocabulary.json").unlink()
    with pytest.raises(DataError, match="lacks vocabulary.json; `denoise-jax import`"):
        load_vocabulary(broken)


def test_a_vocabulary_without_a_mask_encodes_text_but_no_masks(bart_folder, tmp_path):
    bare = shutil.copytree(bart_folder, tmp_path / "bare")
    info = json.loads((bare / "vocabulary.json").read_text())
    (bare / "vocabulary.json").write_text(json.dumps({**info, "mask": None}))
    own = load_vocabulary(bare)
    assert own.mask_id is None
    assert own.encode_masked("text") == own.encode("text")
    with pytest.raises(DataError, match="bare has no mask token"):
        own.encode_masked("a <mask>")
