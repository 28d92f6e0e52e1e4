"""Tensors that do not match config.json are rejected by name; copies and resized vocabularies are read."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from denoise_jax.config import ModelConfig
from denoise_jax.errors import CheckpointError
from denoise_jax.interop.safetensors_files import WEIGHTS, TensorFiles
from denoise_jax.interop.weights import read_params
from tests.interop.helpers import random_tensors

IDS = np.array([1, 2, 3, 0, *range(4, 20)], np.int32)
TABLE = "model.shared.weight"


@pytest.fixture(scope="module")
def config():
    return ModelConfig(
        vocab_size=20,
        embed_dim=8,
        num_heads=2,
        ffn_dim=8,
        num_encoder_layers=1,
        num_decoder_layers=1,
        max_positions=10,
    )


@pytest.fixture
def folder(config, tmp_path):
    """A folder of random weights with 20 rows in its token embedding."""
    values = random_tensors(config, 20)
    values["final_logits_bias"] = np.zeros((1, 20), np.float32)
    save_file(values, tmp_path / WEIGHTS)
    return tmp_path


def _read(folder, config, rows=20, ids=IDS, **options):
    return read_params(TensorFiles(folder), config, rows, ids, **options)


def _change(folder, **tensors):
    """Replaces tensors; None removes one. Double underscores are dots in the name."""
    values = load_file(folder / WEIGHTS)
    for name, tensor in tensors.items():
        name = name.replace("__", ".")
        values = {other: value for other, value in values.items() if other != name}
        values |= {} if tensor is None else {name: tensor}
    save_file(values, folder / WEIGHTS)


def test_the_folder_without_changes_is_read(folder, config):
    params = _read(folder, config)
    table = load_file(folder / WEIGHTS)[TABLE]
    np.testing.assert_array_equal(params["embedding"]["tokens"][:20], table[IDS])
    assert not params["embedding"]["tokens"][20:].any(), "the padding rows are zero"


CHANGES = {
    "missing": (
        {"model__decoder__layers__0__fc1__bias": None},
        r"has no tensor model.decoder.layers.0.fc1.bias \(1 of \d+ tensors are missing\)",
    ),
    "unexpected": (
        {"model__encoder__layers__1__fc1__bias": np.zeros(8, np.float32)},
        r"tensor model.encoder.layers.1.fc1.bias of .*model.safetensors is not part of the model",
    ),
    "wrong shape": (
        {"model__encoder__layers__0__fc1__weight": np.zeros((8, 9), np.float32)},
        r"tensor model.encoder.layers.0.fc1.weight of .*safetensors has shape \(8, 9\), but .* \(8, 8\)",
    ),
    "pruned positions": (
        {"model__decoder__embed_positions__weight": np.zeros((7, 8), np.float32)},
        r"model.decoder.embed_positions.weight .* shape \(7, 8\), .* \(12, 8\), max_position_embeddings \+ 2",
    ),
    "embedding of another size": (
        {"model__shared__weight": np.zeros((21, 8), np.float32)},
        r"tensor model.shared.weight .* has shape \(21, 8\), but config.json requires \(20, 8\)",
    ),
    "a bias of the logits": (
        {"final_logits_bias": np.full((1, 20), 0.5, np.float32)},
        r"tensor final_logits_bias of .*model.safetensors is not zero",
    ),
    "tied, but different": (
        {"lm_head__weight": np.ones((20, 8), np.float32)},
        r"tensor lm_head.weight .* differs from tensor model.shared.weight .*tie_word_embeddings is true",
    ),
    "encoder and decoder embeddings differ": (
        {"model__encoder__embed_tokens__weight": np.ones((20, 8), np.float32)},
        r"tensor model.encoder.embed_tokens.weight .* differs from tensor model.shared.weight",
    ),
    "integers": (
        {"model__encoder__layers__0__fc1__weight": np.zeros((8, 8), np.int8)},
        r"tensor model.encoder.layers.0.fc1.weight of .* is I8; only F32, F16, BF16 are supported",
    ),
    "twice": (
        {"shared__weight": np.zeros((20, 8), np.float32)},
        "shared.weight of .* is a duplicate of model.shared",
    ),
}


@pytest.mark.parametrize(("changes", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_wrong_tensors_are_rejected(folder, config, changes, message):
    _change(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        _read(folder, config)


def test_a_copy_of_the_embedding_is_enough(folder, config):
    wanted = _read(folder, config)
    table = load_file(folder / WEIGHTS)[TABLE]
    copies = {"lm_head__weight": table, "model__decoder__embed_tokens__weight": table}
    version = {"model__encoder__version": np.array([2.0], np.float32)}
    _change(folder, **copies, **version, final_logits_bias=None)
    _change(folder, model__shared__weight=None)
    found = _read(folder, config)
    np.testing.assert_array_equal(found["embedding"]["tokens"], wanted["embedding"]["tokens"])


def test_vocabularies_are_resized_on_request(folder, config):
    table = load_file(folder / WEIGHTS)[TABLE]
    with pytest.raises(CheckpointError, match=r"has 20 rows .* tokenizer has 22 tokens; with --resize"):
        _read(folder, config, ids=np.array([*IDS, 20, 21], np.int32))
    longer = _read(folder, config, ids=np.array([*IDS, 20, 21], np.int32), resize_vocabulary=True)
    rows = longer["embedding"]["tokens"]
    np.testing.assert_array_equal(rows[:20], table[IDS])
    np.testing.assert_allclose(rows[20:22], np.stack([table.mean(axis=0)] * 2), atol=1e-7)
    shorter = _read(folder, config, ids=IDS[:18], resize_vocabulary=True)
    np.testing.assert_array_equal(shorter["embedding"]["tokens"][:18], table[IDS[:18]])
    assert not shorter["embedding"]["tokens"][18:].any()
