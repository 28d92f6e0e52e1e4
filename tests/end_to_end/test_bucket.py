"""Everything that a run reads and writes in a bucket of a real object-store server."""

import jax
import numpy as np
import pytest
from rich.console import Console

import denoise_jax as dj
from denoise_jax.runs.list_runs import list_checkpoints, list_runs
from denoise_jax.runs.load_model import load_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(bucket):
    return f"{bucket}/everything"


@pytest.fixture(scope="module")
def config(folder, tiny_config):
    """The tiny configuration, with its vocabulary in the bucket too."""
    options = {"size": 512, "sentinels": 24, "control_symbols": ("en_20",)}
    dj.train_vocabulary(f"{folder}/vocabulary", task="tiny", task_modules=("tests.tiny_corpus",), **options)
    return tiny_config.replace(
        data={"vocabulary": f"{folder}/vocabulary"}, training={"num_steps": 4, "save_every": 2}
    )


@pytest.fixture(scope="module")
def run(folder, config):
    result = dj.train(config, f"{folder}/run", console=Console(quiet=True))
    assert result.complete and result.step == 4
    return f"{folder}/run"


def test_runs_and_checkpoints_are_listed(folder, run):
    (found,) = list_runs(folder)
    assert (found.state, found.step) == ("finished", 4)
    assert [(checkpoint.step, checkpoint.verified) for checkpoint in list_checkpoints(run, verify=True)] == [
        (2, True),
        (4, True),
    ]


def test_a_run_is_evaluated_and_generates(run):
    first = dj.evaluate(run, max_batches=1)
    assert first["loss"] == dj.evaluate(run, max_batches=1)["loss"] > 0
    assert dj.generate(run, ["The union is <mask>."]) == dj.generate(run, ["The union is <mask>."])


def test_a_run_warm_starts_another(folder, run, config):
    config = config.replace(training={"init_from": run})
    dj.train(config, f"{folder}/warm", console=Console(quiet=True))
    assert load_model(f"{folder}/warm").step == 4


def test_an_export_is_imported_bit_for_bit(folder, run):
    dj.export_folder(run, f"{folder}/exported")
    dj.import_folder(f"{folder}/exported", f"{folder}/imported")
    jax.tree.map(
        np.testing.assert_array_equal, load_model(f"{folder}/imported").params, load_model(run).params
    )
