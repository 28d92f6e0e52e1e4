"""A killed run that is started again ends bit for bit like an uninterrupted one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from denoise_jax.config import Config
from denoise_jax.runs.checkpoint import Checkpointer
from denoise_jax.training.optimizer import make_optimizer
from denoise_jax.training.state import init_state
from denoise_jax.training.writers import read_lines

STEPS, SAVE_EVERY = 40, 10


@pytest.fixture(scope="module")
def config(tiny_config) -> Config:
    """Shuffling, packing, two data shards and dropout are all on."""
    return tiny_config.replace(
        data={"task": "quickstart", "task_modules": ("tasks",), "shards": 2},
        model={"dropout": 0.1},
        training={"num_steps": STEPS, "save_every": SAVE_EVERY, "log_every": 1, "keep_checkpoints": 9},
    )


@pytest.fixture(scope="module")
def start(config, tmp_path_factory, repository):
    """Starts the training command in a given folder."""
    file = tmp_path_factory.mktemp("config") / "tiny.json"
    file.write_text(config.model_dump_json())
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS" and not k.startswith("JAX_NUMPY")}

    def start(folder: Path) -> subprocess.Popen:
        command = [sys.executable, "-m", "denoise_jax.cli.main", "train", str(file), "--workdir", str(folder)]
        return subprocess.Popen(
            command,
            cwd=repository,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


@pytest.fixture(scope="module")
def uninterrupted(start, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    process = start(folder)
    assert process.wait(timeout=300) == 0, process.stdout.read()
    process.stdout.close()
    return folder


def _wait_for_step(process: subprocess.Popen, folder: Path, step: int) -> None:
    deadline = time.monotonic() + 300
    while not any(line["step"] >= step for line in read_lines(folder / "metrics.jsonl")):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "the run did not reach the step"
        time.sleep(0.02)


def _final_state(config: Config, folder: Path):
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    shapes = jax.eval_shape(lambda: init_state(config, optimizer))
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=device), shapes)
    return Checkpointer(folder / "checkpoints", read_only=True).restore(STEPS, target)


def _assert_same_run(config: Config, first: Path, second: Path) -> None:
    one, two = _final_state(config, first), _final_state(config, second)
    for (path, ours), theirs in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=jax.tree_util.keystr(path))
    losses = [
        [
            (line["step"], line["train/loss"], line["train/grad_norm"])
            for line in read_lines(folder / "metrics.jsonl")
        ]
        for folder in (first, second)
    ]
    assert [step for step, *_ in losses[0]] == list(range(1, STEPS + 1))
    assert losses[0] == losses[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, signal.SIGTERM],
    ids=["kill -9", "SIGTERM"],
)
def test_a_killed_run_resumes_exactly(config, start, uninterrupted, tmp_path, number):
    folder = tmp_path / "run"
    process = start(folder)
    _wait_for_step(process, folder, SAVE_EVERY + 3)
    process.send_signal(number)
    code = process.wait(timeout=120)
    printed = process.stdout.read()
    process.stdout.close()
    saved = Checkpointer(folder / "checkpoints", read_only=True).steps()
    assert max(saved, default=0) < STEPS, "the run ended before the signal arrived"
    if number == signal.SIGTERM:
        assert code == 0
        assert f"stopped at step {saved[-1]}" in printed
        assert saved[-1] % SAVE_EVERY, "it saves at the step where it stops"
    else:
        assert code == -signal.SIGKILL
    again = start(folder)
    assert again.wait(timeout=300) == 0, again.stdout.read()
    assert not saved or f"resuming at step {saved[-1]}" in again.stdout.read()
    again.stdout.close()
    _assert_same_run(config, uninterrupted, folder)


@pytest.mark.slow
def test_a_finished_run_is_left_alone(start, uninterrupted):
    before = (uninterrupted / "metrics.jsonl").read_text()
    process = start(uninterrupted)
    assert process.wait(timeout=300) == 0
    process.stdout.close()
    assert (uninterrupted / "metrics.jsonl").read_text() == before
    assert json.loads((uninterrupted / "config.json").read_text())["training"]["num_steps"] == STEPS
