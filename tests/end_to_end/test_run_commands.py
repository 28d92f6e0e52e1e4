"""Commands on runs: what they print and write, and their exit codes when a run fails."""

import json
import os
import shutil
import subprocess
import sys

import jax.numpy as jnp
import optax
import pytest

from denoise_jax.cli.main import main
from denoise_jax.errors import TEMPORARY
from denoise_jax.training import loop
from denoise_jax.training.optimizer import make_optimizer
from tests.object_store import ObjectStore


@pytest.fixture
def run(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "run")


def test_evaluate_prints_json_or_a_table(run, capsys):
    assert main(["evaluate", str(run), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((run / "eval" / "6.json").read_text()) == printed
    keys = {"step", "split", "loss", "perplexity", "tokens", "visible_accuracy", "hidden_accuracy"}
    keys |= {"baseline_accuracy", "hidden_loss", "visible", "hidden", "kinds", "span_length"}
    assert set(printed) == keys
    assert printed["tokens"] == printed["visible"]["tokens"] + printed["hidden"]["tokens"]
    assert printed["tokens"] == sum(kind["tokens"] for kind in printed["kinds"].values())
    assert main(["evaluate", str(run), "--max-batches", "1"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in ("visible", "  in place", "hidden", "  masked"))
    assert "deleted" not in table, "kinds that the noise does not make are not shown"
    assert "masked spans: " in table
    assert main(["evaluate", str(run), "--split", "dev"]) == 2
    assert "no split 'dev'" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--step", "4"]) == 2
    assert "no checkpoint of step 4; it has 3, 6" in capsys.readouterr().err


def test_generate_from_a_single_checkpoint(run, capsys):
    assert main(["generate", str(run / "checkpoints" / "3"), "We must <mask>.", "--json"]) == 0
    (filled,) = json.loads(capsys.readouterr().out)
    assert filled["text"] == "We must <mask>."


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_one_line_and_exit_code_one(tiny_config, tmp_path, capsys, monkeypatch):
    def exploding(config, num_steps):
        jump = optax.scale_by_schedule(lambda count: jnp.where(count < 1, 1.0, jnp.inf))
        return optax.chain(make_optimizer(config, num_steps), jump)

    monkeypatch.setattr(loop, "make_optimizer", exploding)
    file = tmp_path / "config.json"
    file.write_text(tiny_config.model_dump_json())
    assert main(["train", str(file), "--workdir", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("denoise-jax train: step 2 gave loss ")
    assert error.count("\n") == 1


def test_a_shorter_run_is_refused_in_one_line(run, capsys):
    command = ["train", str(run / "config.json"), "--workdir", str(run), "--training.num-steps", "4"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "num_steps=4 is below the 6 steps" in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_bucket_that_does_not_answer_is_reported_in_one_line():
    store = ObjectStore()  # never started
    command = [sys.executable, "-m", "denoise_jax.cli.main", "runs", "gs://somewhere/runs"]
    result = subprocess.run(
        command, env=os.environ | store.environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == TEMPORARY
    (line,) = result.stderr.splitlines()
    assert line.startswith("denoise-jax: gs://somewhere cannot be reached: ")
