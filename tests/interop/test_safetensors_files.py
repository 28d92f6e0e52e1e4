"""Safetensors files, single or sharded: what is written is read, and damaged files are rejected by name."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from denoise_jax.errors import CheckpointError
from denoise_jax.interop.safetensors_files import INDEX, WEIGHTS, TensorFiles, write

NAME = "model.embedding"
SIZES = {NAME: 100, **{f"model.layers.{layer}": 24 for layer in range(8)}}  # bytes


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    values = {name: random.standard_normal(size // 4, np.float32) for name, size in SIZES.items()}
    save_file(values, tmp_path / WEIGHTS)
    return tmp_path


def test_a_sharded_folder_has_the_same_tensors(folder):
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    write(folder, tensors.items(), SIZES, 60)
    files = TensorFiles(folder)
    assert {f"model.{name}" for name in files} == tensors.keys()
    for name in files:
        assert (files.dtype(name), files.shape(name)) == ("float32", tensors[f"model.{name}"].shape)
        np.testing.assert_array_equal(files.read(name), tensors[f"model.{name}"])


@pytest.mark.parametrize("cut", [0, 5, 200, -3])
def test_truncated_files_are_rejected(folder, cut):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:cut])
    with pytest.raises(CheckpointError, match=r"model.safetensors is damaged or truncated: .*; download"):
        TensorFiles(folder)


@pytest.fixture
def shards(folder):
    """The same tensors in several files."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    written = write(folder, tensors.items(), SIZES, 60)
    assert len(written) > 3
    return written


def test_a_missing_shard_is_named(folder, shards):
    shards[1].unlink()
    with pytest.raises(CheckpointError, match=rf"{shards[1].name} is missing, but listed in model.safe"):
        TensorFiles(folder)


def test_no_shard_exceeds_the_limit_except_for_a_large_tensor(folder, shards):
    for file in shards:
        content = load_file(file)
        total = sum(SIZES[name] for name in content)
        assert total <= 60 or len(content) == 1
    index = json.loads((folder / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(SIZES.values())
    assert index["weight_map"].keys() == SIZES.keys()


INDEXES = {
    "invalid JSON": ("{", 'is not an index of shards, which is a JSON object with a "weight_map"'),
    "no map": ("{}", 'is not an index of shards, which is a JSON object with a "weight_map"'),
    "a list": ("[]", 'is not an index of shards, which is a JSON object with a "weight_map"'),
    "empty": ('{"weight_map": {}}', "lists no tensors"),
    "outside": ('{"weight_map": {"a": "../b.safetensors"}}', "which is not a file in the same folder"),
}


@pytest.mark.parametrize(("text", "message"), INDEXES.values(), ids=INDEXES.keys())
def test_a_damaged_index_is_rejected(folder, shards, text, message):
    (folder / INDEX).write_text(text)
    with pytest.raises(CheckpointError, match=re.escape(message)):
        TensorFiles(folder)


def test_an_index_of_other_shards_is_rejected(folder, shards):
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"][NAME] = shards[-1].name
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(
        CheckpointError, match=rf"lists tensor {NAME} in {shards[-1].name}, but it is not there"
    ):
        TensorFiles(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickles_are_not_read(tmp_path, name):
    (tmp_path / name).write_bytes(b"never opened")
    with pytest.raises(CheckpointError, match=rf"only as a pickle, {name}, .*convert it .*: python -c"):
        TensorFiles(tmp_path)


def test_missing_weights_and_a_missing_folder(tmp_path):
    with pytest.raises(CheckpointError, match="has neither model.safetensors nor"):
        TensorFiles(tmp_path)
    with pytest.raises(CheckpointError, match="is not a folder"):
        TensorFiles(tmp_path / "nowhere")
