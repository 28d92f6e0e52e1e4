"""A head on the decoder's last token: packing changes nothing, and no other token has a say in the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.config import Config, OptimizerConfig
from denoise_jax.data.loader import evaluation_batches
from denoise_jax.data.vocabulary import load
from denoise_jax.errors import DataError
from denoise_jax.evaluation.evaluate import Evaluator
from denoise_jax.model.transformer import init_params, module
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.training.loss import training_sums

BATCHES = 4


def _config(tiny_config, pack: bool, num_classes: int = 4) -> Config:
    values = tiny_config.model_dump()
    data = {"task": "quickstart_century_classes", "task_modules": ("tasks",), "pack": pack}
    values["data"] |= {**data, "input_length": 64, "target_length": 64}
    values["model"] |= {"num_classes": num_classes, "embed_dim": 32}
    return Config.model_validate(values)


def _examples_of(config: Config, vocabulary, batches: int) -> list[dict]:
    rows = evaluation_batches(config.data, vocabulary, "validation", 16, batches, num_classes=4)
    return list(rows)


def test_packed_and_single_rows_measure_the_same(tiny_config):
    vocabulary = load(tiny_config.data.vocabulary)
    results = []
    for pack in (False, True):
        config = _config(tiny_config, pack)
        mesh = make_mesh(config.parallel, jax.devices()[:1])
        params = init_params(config.model, len(vocabulary), jax.random.key(0))
        results.append(Evaluator(config, vocabulary, mesh).measure(params, "validation"))
    single, packed = results
    assert set(single) == {"split", "loss", "accuracy", "baseline_accuracy", "examples"}
    assert single["examples"] > 1000
    for name in ("examples", "baseline_accuracy"):
        assert single[name] == packed[name]
    assert packed["loss"] == pytest.approx(single["loss"], rel=1e-5)
    assert packed["accuracy"] == pytest.approx(single["accuracy"], abs=2 / single["examples"])


def test_only_last_tokens_have_a_gradient(tiny_config):
    config = _config(tiny_config, pack=True)
    vocabulary = load(tiny_config.data.vocabulary)
    (batch,) = _examples_of(config, vocabulary, 1)
    batch = {name: jnp.asarray(rows) for name, rows in batch.items()}
    params = init_params(config.model, len(vocabulary), jax.random.key(0))
    logits_BTC = module(config.model, len(vocabulary), params)(batch)
    assert logits_BTC.shape == (16, 64, 4)

    def objective(logits_BTC):
        return training_sums(logits_BTC, batch, OptimizerConfig(label_smoothing=0.1, z_loss=1e-3), 4)

    gradient, sums = jax.grad(objective, has_aux=True)(logits_BTC)
    segments = np.asarray(batch["decoder_segment_ids"])
    last = (segments > 0) & (segments != np.pad(segments, ((0, 0), (0, 1)))[:, 1:])
    np.testing.assert_array_equal(np.asarray(gradient != 0).any(axis=-1), last)
    assert last.sum() == int(sums["tokens"]) > 16


def test_classes_beyond_the_head_are_told_in_one_line(tiny_config):
    config = _config(tiny_config, pack=True, num_classes=3)
    vocabulary = load(tiny_config.data.vocabulary)
    rows = evaluation_batches(config.data, vocabulary, "test", 16, num_classes=3)
    with pytest.raises(DataError, match="_classes' cannot be read: classes must be 0 to 2"):
        list(rows)
