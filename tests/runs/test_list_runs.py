"""Runs and checkpoints are listed with what is known of them; damage is found when it is looked for."""

import shutil

import pytest

from denoise_jax.errors import CheckpointError, UserError
from denoise_jax.runs.list_runs import list_checkpoints, list_runs, read_metrics


@pytest.fixture
def runs(finished_run, tmp_path):
    """A finished run, one that was stopped early and has lost its config.json, and a folder without any."""
    shutil.copytree(finished_run, tmp_path / "a" / "finished")
    stopped = shutil.copytree(finished_run, tmp_path / "stopped")
    shutil.rmtree(stopped / "checkpoints" / "6")
    (stopped / "config.json").unlink()
    (tmp_path / "notes").mkdir()
    return tmp_path


def test_runs_are_listed_with_state_and_step(runs):
    finished, stopped = list_runs(runs)
    assert finished.run == str(runs / "a" / "finished")
    assert (finished.name, finished.state, finished.step, finished.num_steps) == (
        "quickstart",
        "finished",
        6,
        6,
    )
    assert (stopped.state, stopped.step) == ("unfinished", 3)
    assert 0 < finished.loss < 10
    assert finished.updated.endswith("+00:00")
    assert list_runs(runs / "stopped") == [stopped]


def test_an_unreadable_run_is_listed_as_such(runs):
    run = runs / "a" / "finished"
    (run / "config.json").write_text("{}")
    assert list_runs(runs)[0].state == "finished", "its newest checkpoint has the configuration too"
    shutil.rmtree(run / "checkpoints")
    assert list_runs(runs)[0].state == "unreadable"


def test_a_missing_folder_is_refused(runs):
    with pytest.raises(UserError, match="is not a folder"):
        list_runs(runs / "elsewhere")


def test_checkpoints_are_listed_and_verified(runs):
    run = runs / "a" / "finished"
    shutil.copytree(run / "checkpoints" / "3", run / "checkpoints" / "damaged-4")
    found = list_checkpoints(run, verify=True)
    assert [(item.step, item.state, item.verified) for item in found] == [
        (3, "complete", True),
        (4, "damaged", None),
        (6, "complete", True),
    ]
    assert all(item.bytes > 10_000 for item in found)
    for file in (run / "checkpoints" / "6" / "state").rglob("d/*"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    assert [item.verified for item in list_checkpoints(run, verify=True)] == [True, None, False]
    assert [item.verified for item in list_checkpoints(run)] == [None, None, None]


def test_validations_at_the_step_are_listed(runs):
    run = runs / "a" / "finished"
    with (run / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"step": 6, "validation/loss": 2.5, "validation/hidden_accuracy": 0.25}\n')
    assert [(item.loss, item.hidden_accuracy) for item in list_checkpoints(run)] == [
        (None, None),
        (2.5, 0.25),
    ]


def test_checkpoints_need_a_run(runs):
    with pytest.raises(CheckpointError, match="notes is not a run"):
        list_checkpoints(runs / "notes")


FOREIGN = [
    "{",
    "[]",
    "null",
    '{"validation/loss": 1.0}',
    '{"step": "6"}',
    '{"step": 6, "train/loss": "x"}',
    "\0",
]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_foreign_line_of_the_metrics_hides_no_other(runs, foreign):
    metrics = runs / "a" / "finished" / "metrics.jsonl"
    expected = read_metrics(metrics.parent)
    first, *others = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join([first, foreign + "\n", *others]))
    assert read_metrics(metrics.parent) == expected != []
    assert len(list_checkpoints(metrics.parent)) == 2
