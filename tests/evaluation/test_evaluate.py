"""Every kind of target token is measured, the parts add up, and packing changes nothing."""

import json
import shutil

import jax
import numpy as np
import pytest
import seqio
import tensorflow as tf

from denoise_jax.config import Config
from denoise_jax.corruption.compose import chain
from denoise_jax.corruption.deletion import token_deletion
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.sentence_permutation import sentence_permutation
from denoise_jax.data import preprocessors
from denoise_jax.errors import DataError, UserError
from denoise_jax.evaluation.evaluate import Evaluator, evaluate
from denoise_jax.evaluation.metrics import GROUPS
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.runs.load_model import load_model
from denoise_jax.target_kinds import TargetKind
from denoise_jax.vocabulary.load import load_vocabulary
from tests.evaluation.helpers import initial_params

TASK = "test_evaluate_every_kind"


def _every_kind(symbols):
    """Noise that makes targets of all six kinds."""
    infilling = text_infilling(symbols, span_length="poisson", mean_span_length=2.0, mask_random=0.3)
    return chain([token_deletion(symbols, deletion_prob=0.1), sentence_permutation(symbols), infilling])


@pytest.fixture(scope="module")
def config(tiny_config, speeches) -> Config:
    """The tiny configuration over a few paragraphs of a speech under noise of every kind."""
    if TASK not in seqio.TaskRegistry.names():
        text = speeches[0][:6000]
        source = seqio.FunctionDataSource(
            lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices({"text": [text]}),
            splits=["validation"],
        )
        seqio.TaskRegistry.add(
            TASK,
            source=source,
            preprocessors=preprocessors.denoising(TASK, _every_kind),
            output_features=preprocessors.output_features("nowhere"),
        )
    return tiny_config.replace(data={"task": TASK, "task_modules": ()})


def _measure(config: Config, split: str = "validation", **data) -> dict:
    config = config.replace(data=data)
    vocabulary = load_vocabulary(config.data.vocabulary)
    mesh = make_mesh(config.parallel, jax.devices()[:1])
    return Evaluator(config, vocabulary, mesh).measure(initial_params(config.model), split)


@pytest.fixture(scope="module")
def result(config) -> dict:
    return _measure(config)


def test_every_kind_is_measured_and_groups_are_their_means(result):
    kinds = result["kinds"]
    assert set(kinds) == {kind.name.lower() for kind in TargetKind}
    assert all(kind["tokens"] > 0 for kind in kinds.values())
    for group, members in GROUPS.items():
        parts = [kinds[kind.name.lower()] for kind in members]
        tokens = [part["tokens"] for part in parts]
        assert result[group]["tokens"] == sum(tokens)
        for value in ("loss", "accuracy"):
            mean = np.average([part[value] for part in parts], weights=tokens)
            assert result[group][value] == pytest.approx(mean)
            if value == "accuracy":
                assert result[f"{group}_accuracy"] == pytest.approx(mean)
    assert result["tokens"] == result["visible"]["tokens"] + result["hidden"]["tokens"]
    both = [result[group]["loss"] * result[group]["tokens"] for group in GROUPS]
    assert result["loss"] == pytest.approx(sum(both) / result["tokens"])
    assert result["hidden_loss"] == result["hidden"]["loss"]


def test_shares_of_span_lengths_add_up(result):
    lengths = result["span_length"]
    assert lengths["spans"] > 50
    assert lengths["exact"] + lengths["too_long"] + lengths["too_short"] == pytest.approx(1)
    assert abs(lengths["mean_error"]) <= lengths["mean_absolute_error"]


def test_packed_and_single_rows_measure_the_same(config, result):
    single = _measure(config, pack=False)
    for name in ("tokens", "baseline_accuracy"):
        assert single[name] == result[name]
    for name, kind in result["kinds"].items():
        assert single["kinds"][name] == pytest.approx(kind, rel=1e-4), name
    assert single["span_length"] == pytest.approx(result["span_length"])


def test_a_split_without_text_is_refused(config):
    with pytest.raises(DataError, match="no split 'train'"):
        _measure(config, "train")


def test_results_of_a_complete_split_are_written_to_the_run(config, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    part = evaluate(run, max_batches=1)
    assert not (run / "eval").exists(), "results of a part are not written"
    assert (part["step"], part["split"]) == (6, "test")
    result = evaluate(load_model(run, 3), task=config.data.task, split="validation")
    assert json.loads((run / "eval" / f"3-{config.data.task}-validation.json").read_text()) == result
    checkpoint = shutil.copytree(run / "checkpoints", tmp_path / "only")
    assert evaluate(checkpoint / "6", max_batches=1) == part
    with pytest.raises(UserError, match="max_batches=0 must be at least 1"):
        evaluate(run, max_batches=0)
