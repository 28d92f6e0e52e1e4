"""`export_folder`: the folder it writes, to the byte what was imported, and what it refuses."""

import dataclasses
import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from denoise_jax.cli.main import main
from denoise_jax.errors import CheckpointError, ConfigError
from denoise_jax.interop.export_folder import export_folder
from denoise_jax.interop.import_folder import import_folder
from denoise_jax.runs.load_model import load_model
from tests.interop.helpers import SETTINGS, save_run


@pytest.fixture(scope="module")
def run(hf_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported") / "run"
    import_folder(hf_folder, folder)
    return folder


def test_import_and_export_give_the_same_folder(run, hf_folder, tmp_path):
    """Except for the two rows of the position embeddings that nothing reads."""
    out = tmp_path / "out"
    summary = export_folder(run, out)
    before, after = (load_file(folder / "model.safetensors") for folder in (hf_folder, out))
    assert not after.pop("final_logits_bias").any()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        rows = slice(2 if "embed_positions" in name else 0, None)
        np.testing.assert_array_equal(tensor[rows], after[name][rows], err_msg=name)
    assert (out / "tokenizer.json").read_bytes() == (hf_folder / "tokenizer.json").read_bytes()
    assert json.loads((out / "generation_config.json").read_text()) == SETTINGS
    wanted = json.loads((hf_folder / "config.json").read_text()) | {"forced_eos_token_id": 2}
    assert json.loads((out / "config.json").read_text()) == wanted
    assert (summary.architecture, summary.step, summary.vocab_size) == (
        "BartForConditionalGeneration",
        0,
        331,
    )
    assert summary.num_bytes == sum(tensor.nbytes for tensor in after.values()) + 4 * 331


def test_a_loaded_model_is_exported_in_shards_of_another_dtype(run, tmp_path):
    calls = []
    summary = export_folder(
        load_model(run),
        tmp_path / "out",
        dtype="bfloat16",
        max_shard_size=0.00001,
        progress=lambda *call: calls.append(call),
    )
    shards = sorted((tmp_path / "out").glob("model-*-of-*.safetensors"))
    assert len(shards) == summary.num_weight_files > 2
    tensors = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(ml_dtypes.bfloat16)}
    assert calls == [(done, len(tensors)) for done in range(1, len(tensors) + 1)]


def test_the_command_prints_a_line(tiny_config, vocabulary_folder, tmp_path, capsys):
    """A run that was trained here."""
    run = save_run(tmp_path / "run", tiny_config, vocabulary_folder)
    assert main(["export", str(run), str(tmp_path / "out"), "--dtype", "float16"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(
        "MBartForConditionalGeneration of step 5, 512 tokens, 0.1 MB of float16 in 1 file → "
    )
    assert (out.count("\n"), err) == (1, "")


def test_what_cannot_be_exported_is_refused_before_anything_is_written(run, tmp_path):
    out = tmp_path / "out"
    model = load_model(run)
    model = dataclasses.replace(model, config=model.config.replace(model={"embedding_norm": False}))
    with pytest.raises(ConfigError, match="model.embedding_norm=False cannot be exported"):
        export_folder(model, out)
    with pytest.raises(ConfigError, match=r"max_shard_size=0.0 must be above 0"):
        export_folder(run, out, max_shard_size=0.0)
    with pytest.raises(ConfigError, match="dtype='float8' cannot be exported; did you mean float"):
        export_folder(run, out, dtype="float8")
    with pytest.raises(CheckpointError, match="has no checkpoint of step 7; it has 0"):
        export_folder(run, out, step=7)
    (tmp_path / "taken").touch()
    with pytest.raises(ConfigError, match="exists and is not empty; choose another folder"):
        export_folder(run, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]
