"""AutoTokenizer reads our tokenizer files, and imported tokenizers have the ids of Transformers."""

import json

import pytest

from denoise_jax.interop.tokenizer_export import tokenizer_files
from denoise_jax.vocabulary.base import UNK_ID
from denoise_jax.vocabulary.load import load_vocabulary
from tests.interop.helpers import bart_like_tokenizer, import_tokenizer

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.slow  # PyTorch and JAX compute the same models twice


@pytest.fixture(scope="module")
def bart(speeches, tmp_path_factory):
    """A Hugging Face folder with a tokenizer like BART's, without languages."""
    folder = tmp_path_factory.mktemp("bart")
    bart_like_tokenizer(speeches, languages=()).save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": "bart", "eos_token_id": 2}))
    return folder


@pytest.mark.parametrize("model_type", ["bart", "mbart"])
def test_auto_tokenizer_gives_the_ids_of_our_vocabulary(vocabulary_folder, speeches, tmp_path, model_type):
    own = load_vocabulary(vocabulary_folder)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "vocab_size": len(own)}))
    for name, content in tokenizer_files(own).items():
        (tmp_path / name).write_bytes(content)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    roles = (theirs.pad_token_id, theirs.eos_token_id, theirs.unk_token_id, theirs.bos_token_id)
    assert (*roles, theirs.mask_token_id) == (0, 1, 2, 3, own.mask_id)
    for text in [*speeches[0].splitlines(), "", "  odd   spaces ", "<mask> of <mask>."]:
        assert theirs(text)["input_ids"] == [*own.encode_masked(text), 1]
    ids = own.encode(speeches[0].splitlines()[0])
    assert UNK_ID not in ids
    assert theirs.decode([*ids, 1], skip_special_tokens=True) == own.decode(ids)
    theirs.save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "tokenizer.json").read_text())
    ours = json.loads((tmp_path / "tokenizer.json").read_text())
    # The last digit of a score may change each time it is saved.
    assert {name for name in ours if ours[name] != again[name]} <= {"padding", "model"}


def test_imported_ids_are_those_of_transformers(bart, speeches, tmp_path):
    own = load_vocabulary(import_tokenizer(bart, tmp_path / "vocabulary"))
    theirs = transformers.AutoTokenizer.from_pretrained(bart)
    assert "Bart" in type(theirs).__name__ or "Roberta" in type(theirs).__name__
    for text in [*speeches, "", "  odd   spaces ", "The <mask> is <mask>.", "naïve 😀"]:
        ids = [*own.opening_ids, *own.encode_masked(text), 1]
        assert own.hf_ids[ids].tolist() == theirs(text)["input_ids"]


def test_a_saved_tokenizer_is_exported_byte_for_byte(bart, tmp_path):
    transformers.AutoTokenizer.from_pretrained(bart).save_pretrained(tmp_path / "saved")
    transformers.BartConfig(vocab_size=329).save_pretrained(tmp_path / "saved")
    own = load_vocabulary(import_tokenizer(tmp_path / "saved", tmp_path / "vocabulary"))
    assert (own.start_id, own.opening_ids, own.mask_id) == (1, (3,), 328)
    exported = tokenizer_files(own)
    assert "tokenizer_config.json" in exported
    for name, content in exported.items():
        assert content == (tmp_path / "saved" / name).read_bytes()
