"""A classification head: packing changes nothing, and only each segment's last token is in the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
import tensorflow as tf

from denoise_jax.config import Config, LossConfig
from denoise_jax.data import finetuning
from denoise_jax.data.loader import evaluation_batches
from denoise_jax.errors import DataError
from denoise_jax.evaluation.evaluate import Evaluator
from denoise_jax.model.transformer import bind_params
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.training.loss import training_sums
from denoise_jax.vocabulary.load import load_vocabulary
from tests.evaluation.helpers import initial_params

TASK = "test_classification"


@pytest.fixture(scope="module", autouse=True)
def task(speeches):
    """Short sentences of a speech, several of which fit in a row, in four classes by length."""
    if TASK in seqio.TaskRegistry.names():
        return

    def label(example):
        return {**example, "label": tf.strings.length(example["text"]) % 4}

    def read(split, shuffle_files, seed=None):
        return tf.data.Dataset.from_tensors({"text": speeches[0]})

    seqio.TaskRegistry.add(
        TASK,
        source=seqio.FunctionDataSource(read, splits=["validation"]),
        preprocessors=[
            finetuning.passages(1, max_words=12),
            lambda dataset: dataset.map(label),
            finetuning.classification(["text"]),
            *finetuning.tokenized(),
        ],
        output_features=finetuning.class_features("nowhere", 4),
    )


def _config(tiny_config, pack: bool, num_classes: int = 4) -> Config:
    data = {"task": TASK, "task_modules": (), "pack": pack, "input_length": 96, "target_length": 96}
    return tiny_config.replace(data=data, model={"num_classes": num_classes})


def _examples_of(config: Config, vocabulary, batches: int) -> list[dict]:
    rows = evaluation_batches(config.data, vocabulary, "validation", 16, batches, num_classes=4)
    return list(rows)


def test_packed_and_single_rows_measure_the_same(tiny_config):
    vocabulary = load_vocabulary(tiny_config.data.vocabulary)
    results = []
    for pack in (False, True):
        config = _config(tiny_config, pack)
        mesh = make_mesh(config.parallel, jax.devices()[:1])
        params = initial_params(config.model)
        results.append(Evaluator(config, vocabulary, mesh).measure(params, "validation"))
    single, packed = results
    assert set(single) == {"split", "loss", "accuracy", "baseline_accuracy", "examples"}
    assert single["examples"] > 50
    for name in ("examples", "baseline_accuracy"):
        assert single[name] == packed[name]
    assert packed["loss"] == pytest.approx(single["loss"], rel=1e-5)
    assert packed["accuracy"] == pytest.approx(single["accuracy"], abs=2 / single["examples"])


def test_only_last_tokens_have_a_gradient(tiny_config):
    config = _config(tiny_config, pack=True)
    vocabulary = load_vocabulary(tiny_config.data.vocabulary)
    (batch,) = _examples_of(config, vocabulary, 1)
    batch = {name: jnp.asarray(rows) for name, rows in batch.items()}
    forward = jax.jit(lambda params, batch: bind_params(config.model, params)(batch))
    logits_BTC = forward(initial_params(config.model), batch)
    assert logits_BTC.shape == (16, 96, 4)

    def objective(logits_BTC):
        return training_sums(logits_BTC, batch, LossConfig(label_smoothing=0.1, z_loss=1e-3), 4)

    gradient, sums = jax.grad(objective, has_aux=True)(logits_BTC)
    segments = np.asarray(batch["decoder_segment_ids"])
    last = (segments > 0) & (segments != np.pad(segments, ((0, 0), (0, 1)))[:, 1:])
    np.testing.assert_array_equal(np.asarray(gradient != 0).any(axis=-1), last)
    assert last.sum() == int(sums["tokens"]) > 32


def test_classes_beyond_the_head_are_reported_in_one_line(tiny_config):
    config = _config(tiny_config, pack=True, num_classes=3)
    vocabulary = load_vocabulary(tiny_config.data.vocabulary)
    rows = evaluation_batches(config.data, vocabulary, "validation", 16, num_classes=3)
    with pytest.raises(DataError, match="'test_classification' cannot be read: classes must be 0 to 2"):
        list(rows)
