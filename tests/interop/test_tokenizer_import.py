"""Against transformers itself: what AutoTokenizer makes of our files, and our ids of its tokenizers."""

import json

import pytest

from denoise_jax.interop.tokenizer_export import tokenizer_files
from denoise_jax.interop.tokenizer_import import from_huggingface
from denoise_jax.vocabulary.base import UNK_ID
from denoise_jax.vocabulary.load import load_vocabulary

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("model_type", ["bart", "mbart"])
def test_auto_tokenizer_reads_our_vocabulary_as_it_is(vocabulary_folder, speeches, tmp_path, model_type):
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
    # The library reads the last digit of a score anew each time.
    assert {name for name in ours if ours[name] != again[name]} <= {"padding", "model"}


def test_ids_are_those_of_transformers_bart(bart_source, bart_folder, speeches):
    own, theirs = load_vocabulary(bart_folder), transformers.AutoTokenizer.from_pretrained(bart_source)
    assert "Bart" in type(theirs).__name__ or "Roberta" in type(theirs).__name__
    for text in [*speeches, "", "  odd   spaces ", "The <mask> is <mask>.", "naïve 😀"]:
        ids = [*own.opening_ids, *own.encode_masked(text), 1]
        assert own.hf_ids[ids].tolist() == theirs(text)["input_ids"]


def test_a_saved_bart_is_imported_and_goes_back_to_the_byte(bart_source, tmp_path):
    transformers.AutoTokenizer.from_pretrained(bart_source).save_pretrained(tmp_path / "saved")
    transformers.BartConfig(vocab_size=600).save_pretrained(tmp_path / "saved")
    (tmp_path / "vocabulary").mkdir()
    for name, content in from_huggingface(tmp_path / "saved").items():
        (tmp_path / "vocabulary" / name).write_bytes(content)
    own = load_vocabulary(tmp_path / "vocabulary")
    assert (own.start_id, own.opening_ids, own.mask_id) == (1, (3,), 599)
    exported = tokenizer_files(own)
    assert "tokenizer_config.json" in exported
    for name, content in exported.items():
        assert content == (tmp_path / "saved" / name).read_bytes()
