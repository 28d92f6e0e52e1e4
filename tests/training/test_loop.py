"""The loop in process: its order, exact resumption, no bad state saved, and a checkpoint on a stop signal."""

import os
import re
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from denoise_jax.data.loader import TrainLoader
from denoise_jax.errors import CheckpointError, DataError
from denoise_jax.runs.checkpoint import Checkpointer
from denoise_jax.training import loop
from denoise_jax.training.log_interval import NonFiniteLoss
from denoise_jax.training.optimizer import make_optimizer
from denoise_jax.training.writers import read_lines
from tests.training.helpers import make_trainer, run_trainer

RESULT = {"split": "validation", "loss": 1.0, "perplexity": 2.7, "tokens": 3, "visible_accuracy": 0.5}
RESULT |= {"hidden_accuracy": 0.2, "baseline_accuracy": 0.1, "hidden_loss": 2.0, "visible": {"tokens": 2}}


@pytest.fixture(scope="module")
def config(tiny_config):
    """Six steps with dropout, on one device."""
    return tiny_config.replace(
        model={"dropout": 0.1},
        parallel={"data": 1},
        training={"num_steps": 6, "log_every": 1, "save_every": 2, "evaluate_every": 3},
    )


@pytest.fixture(scope="module")
def uninterrupted(config, tmp_path_factory):
    """The folder of a complete run, and the trainer that made it."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    trainer = make_trainer(config, folder, lambda params, stopping: RESULT)
    assert run_trainer(trainer)
    return folder, trainer


def _stop_and_measure(params, stopping) -> dict:
    os.kill(os.getpid(), signal.SIGTERM)
    return RESULT


def _metrics(folder) -> list[tuple]:
    lines = [line for line in read_lines(folder / "metrics.jsonl") if "train/loss" in line]
    return [(line["step"], line["train/loss"], line["train/grad_norm"]) for line in lines]


def _record_calls(trainer, monkeypatch) -> list[str]:
    """Records what the trainer does, in order."""
    events: list[str] = []

    def recording(owner, name, event):
        original = getattr(owner, name)

        def call(*arguments, **options):
            events.append(f"{event} {trainer.step}")
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    recording(trainer, "validate", "evaluate")
    recording(trainer.checkpoints, "save", "save")
    recording(trainer, "_next_batch", "fetch")
    recording(trainer, "train_step", "update")
    recording(trainer.interval.__class__, "values", "log")
    return events


def test_evaluate_then_save_then_fetch_then_update_then_log_the_previous_step(config, tmp_path, monkeypatch):
    config = config.replace(training={"evaluate_every": 2})
    trainer = make_trainer(config, tmp_path, lambda params, stopping: RESULT)
    events = _record_calls(trainer, monkeypatch)
    assert run_trainer(trainer)
    assert events == [
        *("fetch 0", "update 0"),
        *("fetch 1", "update 1", "log 1"),
        *("log 2", "evaluate 2", "save 2", "fetch 2", "update 2"),
        *("fetch 3", "update 3", "log 3"),
        *("log 4", "evaluate 4", "save 4", "fetch 4", "update 4"),
        *("fetch 5", "update 5", "log 5"),
        *("log 6", "evaluate 6", "save 6"),
    ]


def test_data_whose_position_cannot_be_saved_are_refused_before_compiling(config, tmp_path, monkeypatch):
    def refuse(loader):
        raise DataError("cannot be saved")

    monkeypatch.setattr(TrainLoader, "state", refuse)
    monkeypatch.setattr(loop, "make_train_step", None)
    with pytest.raises(DataError, match="cannot be saved"):
        make_trainer(config, tmp_path)


def test_a_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(config, uninterrupted, tmp_path):
    folder, finished = uninterrupted
    first = make_trainer(config.replace(training={"save_every": 100}), tmp_path, _stop_and_measure)
    assert not run_trainer(first)
    second = make_trainer(config, tmp_path, lambda params, stopping: RESULT)
    assert "resuming at step 4" in second.console.file.getvalue()
    assert run_trainer(second)
    jax.tree.map(np.testing.assert_array_equal, second.state, finished.state)
    assert _metrics(tmp_path) == _metrics(folder)
    assert [step for step, *_ in _metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_metrics_and_validation_are_logged_and_shown(uninterrupted):
    folder, trainer = uninterrupted
    lines = read_lines(folder / "metrics.jsonl")
    assert [line["step"] for line in lines if "validation/loss" in line] == [3, 6]
    assert {line["validation/visible_accuracy"] for line in lines if "validation/loss" in line} == {0.5}
    printed = trainer.console.file.getvalue()
    assert "step 3: validation loss 1.000, perplexity 2.700" in printed
    assert re.search(r"step 6/6  loss \d\.\d+  hidden \d\.\d+ ", printed)
    assert Checkpointer(folder / "checkpoints", read_only=True).steps() == [2, 4, 6]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_is_not_saved(config, tmp_path, monkeypatch):
    def exploding(settings, num_steps):
        jump = optax.scale_by_schedule(lambda count: jnp.where(count < 3, 1.0, jnp.inf))
        return optax.chain(make_optimizer(settings, num_steps), jump)

    monkeypatch.setattr(loop, "make_optimizer", exploding)
    config = config.replace(training={"save_every": 1, "evaluate_every": 0})
    with pytest.raises(NonFiniteLoss, match="step 4 gave loss ") as raised:
        run_trainer(make_trainer(config, tmp_path))
    assert "\n" not in str(raised.value)
    assert Checkpointer(tmp_path / "checkpoints", read_only=True).steps()[-1] == 3


@pytest.mark.slow
def test_more_skipped_updates_in_a_row_than_allowed_stop_the_run(config, tmp_path, monkeypatch):
    def exploding(settings, num_steps):
        jump = optax.scale_by_schedule(lambda count: jnp.where(count < 1, 1.0, jnp.inf))
        return optax.chain(make_optimizer(settings, num_steps), jump)

    monkeypatch.setattr(loop, "make_optimizer", exploding)
    settings = {"nonfinite": "skip", "max_skipped_updates": 3, "save_every": 1, "evaluate_every": 0}
    with pytest.raises(NonFiniteLoss, match="step 5 gave loss "):
        run_trainer(make_trainer(config.replace(training=settings), tmp_path))
    checkpoints = Checkpointer(tmp_path / "checkpoints", read_only=True)
    assert checkpoints.steps()[-1] == 4
    assert [line["step"] for line in read_lines(tmp_path / "metrics.jsonl")] == [1]


def test_a_signal_saves_a_checkpoint_and_stops(config, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    trainer = make_trainer(config.replace(training={"save_every": 100}), tmp_path, _stop_and_measure)
    assert not run_trainer(trainer)
    assert trainer.step == 4, "the step after the one during which the signal came"
    assert Checkpointer(tmp_path / "checkpoints", read_only=True).steps() == [4]
    assert signal.getsignal(signal.SIGTERM) is before


def test_implicit_transfers_are_refused(config, tmp_path):
    def validate(params, stopping):
        return RESULT | {"loss": jnp.sum(params["embedding"]["tokens"]) * np.float32(2)}

    trainer = make_trainer(config.replace(training={"evaluate_every": 1}), tmp_path, validate)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        run_trainer(trainer)


def test_without_a_usable_checkpoint_nothing_is_renamed(config, uninterrupted, tmp_path):
    run = shutil.copytree(uninterrupted[0], tmp_path / "run")
    for file in (run / "checkpoints").glob("*/files/data/*"):
        file.write_bytes(b"x")
    with pytest.raises(CheckpointError, match="no checkpoint can be used"):
        make_trainer(config, run)
    assert sorted(entry.name for entry in (run / "checkpoints").iterdir()) == ["2", "4", "6"]


def test_a_damaged_checkpoint_is_set_aside_for_the_previous_one(config, uninterrupted, tmp_path):
    run = shutil.copytree(uninterrupted[0], tmp_path / "run")
    for file in (run / "checkpoints" / "6" / "state").glob("**/d/*"):
        file.unlink()
    trainer = make_trainer(config, run)
    trainer.close()
    assert trainer.step == 4
    printed = trainer.console.file.getvalue()
    assert "falling back to the previous checkpoint" in printed and "resuming at step 4" in printed
    assert (run / "checkpoints" / "damaged-6").is_dir()
