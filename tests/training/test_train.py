"""`train` as a library function: what it leaves and returns, and what it refuses before writing anything."""

import io
import json
import shutil

import pytest
from rich.console import Console

from denoise_jax.errors import ConfigError, UserError
from denoise_jax.training.train import TrainResult, train


def test_what_a_run_leaves(finished_run):
    assert sorted(entry.name for entry in finished_run.iterdir() if entry.name != ".lock") == [
        "checkpoints", "config.json", "metrics.jsonl", "plots", "tensorboard", "vocabulary"
    ]  # fmt: skip
    lines = [json.loads(line) for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 3, 4, 6]
    assert (finished_run / "plots" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_finished_run_is_left_alone(tiny_config, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    console = Console(file=io.StringIO(), width=300)
    result = train(tiny_config, run, console=console)
    assert result == TrainResult(run, 6, True, run / "plots" / "loss.png")
    assert console.file.getvalue().startswith("done at step 6; loss curve in ")
    assert (run / "metrics.jsonl").read_text() == (finished_run / "metrics.jsonl").read_text()
    assert (run / "config.json").read_text() == (finished_run / "config.json").read_text()


def test_fewer_steps_than_are_done_are_refused_and_nothing_is_written(tiny_config, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    with pytest.raises(ConfigError, match="num_steps=4 is below the 6 steps"):
        train(tiny_config.replace(training={"num_steps": 4}), run)
    assert (run / "config.json").read_text() == (finished_run / "config.json").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"writers": ("mlflow",)}}, "training.writers: mlflow is not installed"),
        ({"data": {"task": "quickstrat"}}, "did you mean quickstart"),
        ({"model": {"num_classes": 4, "max_positions": 128}, "data": {"input_length": 64}}, "num_classes=4"),
        ({"parallel": {"fsdp": 3}}, "fsdp=3"),
        ({"parallel": {"fsdp": 8}, "model": {"embed_dim": 36}}, "parallel.fsdp=8 does not divide 36"),
        ({"data": {"batch_size": 4}}, "data.batch_size / training.accumulation_steps: 4 rows"),
        (
            {"evaluation": {"validation_split": "dev"}, "training": {"evaluate_every": 3}},
            "has no split 'dev'",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    tiny_config, tmp_path, changes, message
):
    with pytest.raises(UserError, match=message):
        train(tiny_config.replace(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()
