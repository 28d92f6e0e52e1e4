"""Metrics files: nothing twice after a resume, nothing lost after a kill."""

import json
import resource

import pytest

from denoise_jax.errors import ConfigError
from denoise_jax.training import writers


def test_a_resumed_run_writes_each_step_once(tmp_path):
    file = tmp_path / "metrics.jsonl"
    first = writers.JsonlWriter(file, 0)
    for step in (2, 4, 6):
        first.write(step, {"train/loss": float(step)})
    with file.open("a") as cut:
        cut.write('{"step": 8, "train/lo')  # killed in the middle of a line
    first.close()
    second = writers.JsonlWriter(file, 4)
    second.write(6, {"train/loss": 60.0})
    second.close()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["step"], line["train/loss"]) for line in lines] == [(2, 2.0), (4, 4.0), (6, 60.0)]


def test_lines_that_a_full_disk_does_not_take_are_written_later(tmp_path, capsys):
    file = tmp_path / "metrics.jsonl"
    writer = writers.JsonlWriter(file, 0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, limits[1]))  # in the middle of the second line
    try:
        for step in (1, 2, 3):
            writer.write(step, {"train/loss": float(step)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert writers.read_lines(file) == [{"step": 1, "train/loss": 1.0}]
    assert "metrics.jsonl cannot be written: File too large; " in capsys.readouterr().err
    writer.write(4, {"train/loss": 4.0})
    writer.close()
    assert [line["step"] for line in writers.read_lines(file)] == [1, 2, 3, 4]


def test_the_configured_writers_are_opened(tmp_path, tiny_config):
    opened = writers.open_writers(tmp_path, tmp_path, tiny_config, 0)
    writers.write_all(opened, 1, {"train/loss": 2.5})
    for writer in opened:
        writer.close()
    assert writers.read_lines(tmp_path / "metrics.jsonl") == [{"step": 1, "train/loss": 2.5}]
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"train/loss" in events.read_bytes()


def test_wandb_logs_offline(tmp_path, tiny_config, monkeypatch):
    pytest.importorskip("wandb", reason="an optional extra")
    monkeypatch.setenv("WANDB_MODE", "offline")
    writer = writers.WandbWriter(tmp_path, tmp_path, tiny_config)
    writer.write(1, {"train/loss": 2.5})
    writer.close()
    (log,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"train/loss" in log.read_bytes()


def test_mlflow_logs_to_a_folder(tmp_path, tiny_config, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="an optional extra")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # instead of a server or a database
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    writer = writers.MlflowWriter(tmp_path, tiny_config)
    writer.write(1, {"train/loss": 2.5})
    writer.close()
    (run,) = mlflow.search_runs(experiment_names=["denoise_jax"], output_format="list")
    assert run.data.metrics == {"train.loss": 2.5}


def test_a_missing_library_is_reported(tmp_path, tiny_config, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"wandb is not installed.*extra \[wandb\]"):
        writers.open_writers(tmp_path, tmp_path, tiny_config.replace(training={"writers": ("wandb",)}), 0)
