"""Runs of several real processes with virtual devices: the same results, and nothing lost when one dies."""

import json
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from denoise_jax.paths import to_path
from denoise_jax.training.writers import read_lines
from tests.end_to_end.helpers import assert_same_state, final_state, finish, run_command, start_two, train

pytestmark = pytest.mark.slow

STEPS = 12
ON_ONE = {"processes": 1, "devices": 4}
ON_TWO = {"processes": 2, "devices": 4}


@pytest.fixture(scope="module")
def config(tiny_config):
    """Four data shards, dropout, and a validation in the middle."""
    return tiny_config.replace(
        model={"dropout": 0.1},
        data={"shards": 4},
        optimizer={"schedule": "constant"},  # so that a shorter run is the beginning of a longer one
        training={"num_steps": STEPS, "log_every": 1, "save_every": 4, "evaluate_every": 6},
    )


@pytest.fixture(scope="module")
def on_one(config, tmp_path_factory):
    """A run of one process with four devices."""
    folder = tmp_path_factory.mktemp("one")
    train(config, folder, folder / "run", **ON_ONE)
    return folder / "run"


@pytest.fixture(scope="module")
def on_two(config, tmp_path_factory):
    """The same run of two processes with two devices each."""
    folder = tmp_path_factory.mktemp("two")
    train(config, folder, folder / "run", **ON_TWO)
    return folder / "run"


def logged(run, name="train/loss"):
    """{step: value} of metrics.jsonl."""
    return {line["step"]: line[name] for line in read_lines(run / "metrics.jsonl") if name in line}


def assert_same_training(run, other):
    """The same batches, by their numbers of tokens, and the same losses up to the order of sums."""
    assert logged(run, "train/tokens") == logged(other, "train/tokens")
    assert logged(run) == pytest.approx(logged(other), rel=1e-5)
    assert logged(run, "validation/loss") == pytest.approx(logged(other, "validation/loss"), rel=1e-5)


def wait_for(file, seconds=240):
    """Waits until a file or folder exists."""
    deadline = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} did not appear"
        time.sleep(0.05)


def test_two_processes_train_as_one_does(config, on_one, on_two):
    assert list(logged(on_two)) == list(range(1, STEPS + 1))
    assert list(logged(on_two, "validation/loss")) == [6, 12]
    assert_same_training(on_two, on_one)
    states = (final_state(config, run)["params"] for run in (on_one, on_two))
    # Adam divides by the root of tiny second moments, so parameters agree less closely than losses.
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, atol=2e-4), *states)


@pytest.mark.parametrize(("first", "then"), [(ON_TWO, ON_ONE), (ON_ONE, ON_TWO)], ids=["2 to 1", "1 to 2"])
def test_a_run_resumes_on_another_number_of_processes(config, on_one, tmp_path, first, then):
    run = tmp_path / "run"
    train(config.replace(training={"num_steps": STEPS // 2}), tmp_path, run, **first)
    train(config, tmp_path, run, **then)
    assert_same_training(run, on_one)


@pytest.mark.parametrize("victim", [0, 1], ids=["coordinator", "worker"])
def test_a_killed_process_ends_the_others_and_the_run_resumes(config, on_two, tmp_path, victim):
    run = tmp_path / "run"
    processes = start_two(config, tmp_path, run)
    wait_for(run / "checkpoints" / "4")
    processes[victim].kill()
    codes, _ = finish(processes)
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] not in (0, 1, 2), "to be started again"
    train(config, tmp_path, run, **ON_TWO)
    assert_same_state(final_state(config, run), final_state(config, on_two))
    assert logged(run) == logged(on_two)


def test_a_signal_to_one_process_stops_all_at_the_same_step(config, tmp_path):
    run = tmp_path / "run"
    processes = start_two(config.replace(training={"num_steps": 4000}), tmp_path, run)
    wait_for(run / "checkpoints" / "4")
    processes[1].send_signal(signal.SIGTERM)
    codes, outputs = finish(processes)
    assert codes == [0, 0]
    assert "stopped at step" in outputs[0]
    saved = max(int(folder.name) for folder in (run / "checkpoints").iterdir())
    assert saved == max(logged(run))


def test_processes_that_differ_are_reported_by_name(config, tmp_path):
    processes = start_two(config, tmp_path, tmp_path / "run", differing=("--optimizer.b1", "0.5"))
    codes, outputs = finish(processes)
    assert codes == [2, 2]
    for output in outputs:
        assert "processes 0 and 1 of the run differ: optimizer.b1 is 0.9 and 0.5" in output
    assert not (tmp_path / "run").exists()


def test_an_error_of_one_process_is_reported_by_all(config, tmp_path):
    processes = start_two(config, tmp_path, tmp_path / "run", differing=("--data.vocabulary", "nowhere"))
    codes, outputs = finish(processes)
    assert codes == [2, 2]
    assert "process 1: no vocabulary at nowhere" in outputs[0]


def test_a_damaged_checkpoint_is_passed_over_by_all_processes(config, on_two, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(on_two, run)
    for file in (run / "checkpoints" / str(STEPS) / "state").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:-100])
    output = train(config.replace(training={"num_steps": STEPS + 4}), tmp_path, run, **ON_TWO)
    assert "falling back to the previous checkpoint" in output and "resuming at step 8" in output
    assert (run / "checkpoints" / f"damaged-{STEPS}").is_dir()
    assert logged(run) == logged(run) | logged(on_two), "the same losses up to the damaged step"


@pytest.mark.parametrize("command", [["evaluate"], ["generate", "We must <mask>."]], ids=lambda c: c[0])
def test_two_processes_evaluate_and_generate_as_one_does(on_two, command):
    name, *texts = command
    results = []
    for count in (ON_ONE, ON_TWO):
        output = run_command([name, str(on_two), *texts, "--json"], **count)
        start = output.index("{\n" if name == "evaluate" else "[\n")
        results.append(json.loads(output[start:]))
    one, two = results
    if name == "evaluate":
        one, two = ({key: result[key] for key in ("tokens", "loss", "hidden_loss")} for result in results)
    assert two == (pytest.approx(one, rel=1e-5) if name == "evaluate" else one)


def test_a_run_in_a_bucket_survives_kills_bit_for_bit(config, on_two, bucket, tmp_path):
    run = to_path(bucket) / "killed"
    kills = ("--kill-every", "12", "--kills", "1")
    output = train(config, tmp_path, run, **ON_TWO, launch=kills)
    assert "starting again" in output
    assert_same_state(final_state(config, run), final_state(config, on_two))
    assert logged(run) == logged(on_two)
