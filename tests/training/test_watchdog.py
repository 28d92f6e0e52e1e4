"""A run without progress is ended with the stacks of its threads; one that makes progress is not."""

import subprocess
import sys
import time

from denoise_jax.errors import TEMPORARY
from denoise_jax.training.watchdog import Watchdog

STUCK = """
import pathlib, sys, time
from denoise_jax.training.watchdog import Watchdog

def waiting_for_a_collective():
    time.sleep(60)

with Watchdog(0.5, pathlib.Path(sys.argv[1])):
    waiting_for_a_collective()
"""


def test_a_stuck_run_is_ended_and_shows_where_it_is(tmp_path):
    file = tmp_path / "stacks.txt"
    command = [sys.executable, "-c", STUCK, str(file)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert process.returncode == TEMPORARY
    for text in (process.stderr, file.read_text()):
        assert "in waiting_for_a_collective" in text
    assert "no progress for 0.5 s" in process.stderr


def test_progress_keeps_a_run_alive(tmp_path):
    with Watchdog(0.5, tmp_path / "stacks.txt") as watchdog:
        for _ in range(10):
            time.sleep(0.1)
            watchdog.beat()
    assert not (tmp_path / "stacks.txt").exists()


def test_zero_turns_it_off(tmp_path):
    with Watchdog(0, tmp_path / "stacks.txt"):
        time.sleep(0.2)
