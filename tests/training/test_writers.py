"""Metrics files: nothing twice after a resume, nothing lost after a kill."""

import json

import pytest

from denoise_jax.errors import ConfigError
from denoise_jax.training import plots, writers


def test_a_resumed_run_writes_each_step_once(tmp_path):
    file = tmp_path / "metrics.jsonl"
    first = writers.JsonlWriter(file, 0)
    for step in (2, 4, 6):
        first.write(step, {"train/loss": float(step)})
    with file.open("a") as cut:
        cut.write('{"step": 8, "train/lo')  # killed in mid-line
    first.close()
    second = writers.JsonlWriter(file, 4)
    second.write(6, {"train/loss": 60.0})
    second.close()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["step"], line["train/loss"]) for line in lines] == [(2, 2.0), (4, 4.0), (6, 60.0)]


def test_writers_by_name(tmp_path, tiny_config):
    writers = writers.open_writers(tmp_path, tiny_config, 0)
    writers.write_all(writers, 1, {"train/loss": 2.5})
    for writer in writers:
        writer.close()
    assert writers.read_lines(tmp_path / "metrics.jsonl") == [{"step": 1, "train/loss": 2.5}]
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"train/loss" in events.read_bytes()


def test_wandb_offline(tmp_path, tiny_config, monkeypatch):
    pytest.importorskip("wandb", reason="an optional extra")
    monkeypatch.setenv("WANDB_MODE", "offline")
    writer = writers.WandbWriter(tmp_path, tiny_config)
    writer.write(1, {"train/loss": 2.5})
    writer.close()
    (log,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"train/loss" in log.read_bytes()


def test_mlflow_in_a_folder(tmp_path, tiny_config, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="an optional extra")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a server or a database elsewhere
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    writer = writers.MlflowWriter(tmp_path, tiny_config)
    writer.write(1, {"train/loss": 2.5})
    writer.close()
    (run,) = mlflow.search_runs(experiment_names=["denoise_jax"], output_format="list")
    assert run.data.metrics == {"train.loss": 2.5}


def test_missing_library_is_told(tmp_path, tiny_config, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    training = tiny_config.training.model_copy(update={"writers": ("wandb",)})
    with pytest.raises(ConfigError, match=r"wandb is not installed.*extra \[wandb\]"):
        writers.open_writers(tmp_path, tiny_config.model_copy(update={"training": training}), 0)


def test_plot(tmp_path):
    assert plots.plot_loss(tmp_path, "nothing yet") is None
    writer = writers.JsonlWriter(tmp_path / "metrics.jsonl", 0)
    for step in range(1, 9):
        writer.write(step, {"train/loss": 9.0 / step, "train/hidden_loss": 10.0 / step})
    writer.close()
    picture = plots.plot_loss(tmp_path, "a run")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000
