"""The tokenizer of a Hugging Face folder as a vocabulary: the roles of its tokens, and what is refused."""

import json
import shutil

import pytest
from tokenizers import Tokenizer, processors

from denoise_jax.errors import DataError
from denoise_jax.interop.tokenizer_import import from_huggingface


def test_roles_follow_the_files_of_the_folder(bart_source, tmp_path):
    """By name, by id, or else BART's; further symbols from a list. Tokenizer files are unchanged."""
    source = shutil.copytree(bart_source, tmp_path / "hf")
    config = {"eos_token": {"content": "<s>"}, "additional_special_tokens": ["Ġthe"]}
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    (source / "config.json").write_text('{"bos_token_id": 2, "decoder_start_token_id": 3}')
    found = from_huggingface(source).files
    info = json.loads(found["vocabulary.json"])
    assert (info["eos"], info["bos"], info["start"], info["pad"]) == ("<s>", "</s>", "<unk>", "<pad>")
    assert info["symbols"] == ["Ġthe"]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert found[name] == (source / name).read_bytes()


def test_folders_without_a_usable_tokenizer_are_refused(bart_source, tmp_path):
    with pytest.raises(DataError, match="has no tokenizer.json; make one .*save_pretrained"):
        from_huggingface(tmp_path)
    source = shutil.copytree(bart_source, tmp_path / "hf")
    parts = json.loads((source / "tokenizer.json").read_text())

    def refused(change, message):
        (source / "tokenizer.json").write_text(change if isinstance(change, str) else json.dumps(change))
        with pytest.raises(DataError, match=message):
            from_huggingface(source)

    refused("{", "tokenizer.json is not JSON")
    refused("[]", "tokenizer.json holds a list")
    refused({"model": {}}, "tokenizer.json is not a tokenizer")
    shifted = {name: index + (index > 300) for name, index in parts["model"]["vocab"].items()}
    refused({**parts, "model": {**parts["model"], "vocab": shifted}}, "do not have the ids 0 to 599.* 301 is")
    (source / "special_tokens_map.json").write_text('{"unk_token": "[UNK]"}')
    refused(parts, r"tokenizer.json has no token '\[UNK\]'.* unk token")


def test_the_class_of_the_tokenizer_tells_where_languages_belong(mbart_folder, tmp_path):
    """As in Transformers, a known class decides before the template of tokenizer.json."""

    def frame(name, **config):
        source = shutil.copytree(mbart_folder, tmp_path / name)
        (source / "config.json").write_text('{"model_type": "mbart"}')
        (source / "tokenizer_config.json").write_text(json.dumps(config))
        found = from_huggingface(source)
        info = json.loads(found.files["vocabulary.json"])
        return info["opening"], info.get("language_opens", False), found.language

    assert frame("50", tokenizer_class="MBart50Tokenizer", src_lang="ro_RO") == ([], True, "ro_RO")
    assert frame("50 fast", tokenizer_class="MBart50TokenizerFast") == ([], True, "en_XX")
    assert frame("25", tokenizer_class="MBartTokenizer", src_lang="ro_RO") == ([], False, "ro_RO")
    assert frame("by model_type") == ([], False, "en_XX")
    assert frame("by template", tokenizer_class="PreTrainedTokenizerFast") == ([], False, "en_XX")
    opened = Tokenizer.from_file(str(mbart_folder / "tokenizer.json"))
    opened.post_processor = processors.TemplateProcessing(
        single="ro_RO $A </s>", pair="ro_RO $A $B </s>", special_tokens=[("</s>", 2), ("ro_RO", 5)]
    )
    source = shutil.copytree(mbart_folder, tmp_path / "opened")
    opened.save(str(source / "tokenizer.json"))
    assert from_huggingface(source).language == "ro_RO"
    (source / "tokenizer_config.json").write_text('{"cls_token": "ro_RO"}')
    assert from_huggingface(source).language is None, "a class token is no language: it opens every text"
    assert json.loads(from_huggingface(source).files["vocabulary.json"])["opening"] == ["ro_RO"]
