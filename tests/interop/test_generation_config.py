"""Generation settings: lengths exclude the start token, tokens are named, the unsupported are reported."""

import json

import pytest

from denoise_jax.config import GenerationConfig
from denoise_jax.errors import ConfigError
from denoise_jax.interop.generation_config import read_generation_config, write_generation_config

NAMES = {0: "<s>", 1: "<pad>", 2: "</s>", 3: "<unk>", 7: "ro_RO"}
IDS = {name: index for index, name in NAMES.items()}
SPECIAL = {"pad_token_id": 1, "eos_token_id": 2, "bos_token_id": 0}

# generation_config.json of the published bart-large-cnn.
SUMMARIES = {
    "_from_model_config": True,
    "bos_token_id": 0,
    "decoder_start_token_id": 2,
    "early_stopping": True,
    "eos_token_id": 2,
    "forced_bos_token_id": 0,
    "forced_eos_token_id": 2,
    "length_penalty": 2.0,
    "max_length": 142,
    "min_length": 56,
    "no_repeat_ngram_size": 3,
    "num_beams": 4,
    "pad_token_id": 1,
    "transformers_version": "4.27.0.dev0",
}
WANTED = GenerationConfig(
    early_stopping=True,
    forced_bos="<s>",
    forced_eos="</s>",
    length_penalty=2.0,
    max_new_tokens=141,
    min_new_tokens=55,
    no_repeat_ngram_size=3,
    num_beams=4,
)


def read(folder, values, name="generation_config.json", max_positions=1024):
    (folder / name).write_text(json.dumps({"decoder_start_token_id": 2, **values}))
    return read_generation_config(folder, NAMES.__getitem__, 2, max_positions)


def test_published_settings_are_imported(tmp_path):
    assert read(tmp_path, SUMMARIES) == (WANTED, [])


def test_older_folders_have_them_in_config_json(tmp_path):
    others = {"model_type": "bart", "d_model": 8, "torch_dtype": "float32", "prefix": " "}
    found, notes = read(tmp_path, {**SUMMARIES, **others, "repetition_penalty": 1.3}, "config.json")
    assert found == WANTED
    assert len(notes) == 1 and "config.json: repetition_penalty=1.3 is not imported" in notes[0]


def test_generation_config_json_has_precedence(tmp_path):
    read(tmp_path, {"num_beams": 9}, "config.json")
    assert read(tmp_path, SUMMARIES)[0] == WANTED


def test_max_new_tokens_has_precedence_and_is_at_most_max_positions(tmp_path):
    found, _ = read(tmp_path, {"max_length": 20, "max_new_tokens": 30, "min_length": 5, "min_new_tokens": 2})
    assert (found.max_new_tokens, found.min_new_tokens) == (30, 2)
    assert read(tmp_path, {"max_length": 200}, max_positions=40)[0].max_new_tokens == 40
    assert read(tmp_path, {}) == (GenerationConfig(), [])


def test_null_is_unset(tmp_path):
    values = {"num_beams": None, "early_stopping": None, "forced_bos_token_id": None, "top_k": None}
    assert read(tmp_path, {**values, "repetition_penalty": None}) == (GenerationConfig(), [])


def test_another_start_token_is_named(tmp_path):
    assert read(tmp_path, {"decoder_start_token_id": 7})[0].start == "ro_RO"
    assert read(tmp_path, {"decoder_start_token_id": 2})[0].start is None


def test_without_a_start_token_the_decoder_starts_as_in_transformers(tmp_path):
    def start(name, **values):
        found, notes = read(tmp_path, {"decoder_start_token_id": None, **values}, name)
        (tmp_path / name).unlink()
        return found.start, notes

    assert start("generation_config.json", bos_token_id=0) == ("<s>", [])
    assert start("config.json", model_type="mbart") == ("<s>", [])
    assert start("config.json", model_type="mbart", bos_token_id=7) == ("ro_RO", [])
    assert start("config.json", model_type="bart") == (None, []), "the default of BART is </s>"
    found, notes = start("generation_config.json")
    assert found is None
    assert notes[0].startswith("generation_config.json: neither decoder_start_token_id nor bos_token_id is")


def test_languages_are_exported_where_they_belong():
    config = GenerationConfig(language="<unk>", target_language="ro_RO", start="</s>", max_new_tokens=9)
    last = write_generation_config(config, IDS.__getitem__, SPECIAL, 2, 30)
    assert (last["decoder_start_token_id"], last.get("forced_bos_token_id")) == (7, None)
    first = write_generation_config(config, IDS.__getitem__, SPECIAL, 2, 30, language_opens=True)
    assert (first["decoder_start_token_id"], first["forced_bos_token_id"]) == (2, 7)


def test_sampling_is_imported_but_not_with_beams(tmp_path):
    found, notes = read(tmp_path, {"do_sample": True, "temperature": 0.7, "top_p": 0.9})
    assert found == GenerationConfig(do_sample=True, temperature=0.7, top_p=0.9, top_k=50)
    assert notes == []
    found, notes = read(tmp_path, {"do_sample": True, "num_beams": 4})
    assert (found.do_sample, found.num_beams) == (False, 4)
    assert "do_sample with num_beams=4 is not supported" in notes[0]


def test_each_unsupported_setting_is_reported(tmp_path):
    neutral = {"repetition_penalty": 1.0, "num_beam_groups": 1, "bad_words_ids": None, "use_cache": True}
    changing = {"bad_words_ids": [[5]], "diversity_penalty": 0.5, "some_new_setting": 3}
    _, notes = read(tmp_path, {**neutral, **changing})
    assert [note.split("=")[0] for note in notes] == [f"generation_config.json: {name}" for name in changing]
    assert all("is not imported" in note for note in notes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"forced_bos_token_id": 99}, "forced_bos_token_id=99: the tokenizer has no such token"),
        ({"forced_eos_token_id": [1, 2]}, r"forced_eos_token_id=\[1, 2\]: give one token id"),
        ({"num_beams": 0}, "generation_config.json: num_beams: "),
        ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences=3 is above num_beams=2"),
    ],
)
def test_invalid_settings_are_rejected(tmp_path, values, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, values)


@pytest.mark.parametrize(
    "config",
    [
        WANTED,
        GenerationConfig(max_new_tokens=9, start="ro_RO"),
        GenerationConfig(max_new_tokens=9, do_sample=True, temperature=0.5, top_k=0, top_p=0.9),
    ],
)
def test_exported_settings_are_imported_unchanged(tmp_path, config):
    written = write_generation_config(config, IDS.__getitem__, SPECIAL, 2, longest=500)
    assert read(tmp_path, written) == (config, [])


def test_max_length_and_start_token_are_exported(tmp_path):
    written = write_generation_config(GenerationConfig(language="ro_RO"), IDS.__getitem__, SPECIAL, 2, 30)
    assert (written["max_length"], written["decoder_start_token_id"]) == (31, 7)
    both = GenerationConfig(language="ro_RO", start="</s>")
    written = write_generation_config(both, IDS.__getitem__, SPECIAL, 0, 30)
    assert written["decoder_start_token_id"] == IDS["</s>"], (
        "a start token has precedence over a language, as in our own generation"
    )
