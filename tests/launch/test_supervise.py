"""The supervisor with real processes: what is started again, and what is not."""

import json
import signal
import subprocess
import sys
import time

import pytest

from launch import supervise

# Ends with the exit codes in codes.txt, one for each start; the last again and again.
PROGRAM = """
import pathlib, sys, os, signal
file = pathlib.Path(sys.argv[1])
codes = file.read_text().split()
if len(codes) > 1:
    file.write_text(" ".join(codes[1:]))
code = int(codes[0])
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


def start(tmp_path, codes, restarts=20):
    (tmp_path / "codes.txt").write_text(" ".join(map(str, codes)))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "codes.txt")]
    flags = ["--state", str(tmp_path / "state.json"), "--pause", "0.01", "--restarts", str(restarts)]
    return subprocess.Popen([sys.executable, "-m", "launch.supervise", *flags, "--", *command])


@pytest.mark.parametrize(
    ("codes", "restarts", "state", "count"),
    [
        ([0], 20, "ended", 0),
        ([134, -9, 75, 139, 0], 20, "ended", 4),
        ([134, 1], 20, "failed", 1),
        ([2], 20, "failed", 0),
        ([134], 3, "failed", 3),
    ],
)
def test_what_is_worth_a_retry_is_started_again(tmp_path, codes, restarts, state, count):
    process = start(tmp_path, codes, restarts)
    assert process.wait(timeout=30) == codes[-1]
    found = json.loads((tmp_path / "state.json").read_text())
    assert (found["state"], found["restarts"], found["code"]) == (state, count, codes[-1])


def test_a_signal_is_passed_on_and_ends_it(tmp_path):
    state = tmp_path / "state.json"
    flags = ["--state", str(state), "--pid", str(tmp_path / "pid")]
    process = subprocess.Popen([sys.executable, "-m", "launch.supervise", *flags, "--", "sleep", "60"])
    deadline = time.monotonic() + 20
    while not state.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert int((tmp_path / "pid").read_text()) == process.pid
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)
    assert json.loads(state.read_text())["state"] == "stopped"


def test_the_holder_of_a_device_is_killed_after_some_patience(tmp_path):
    device = tmp_path / "accel0"
    device.touch()
    program = "import sys, time; held = open(sys.argv[1]); print('held', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", program, str(device)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        supervise.free_devices(0.1, [str(tmp_path / "accel*")])
        assert holder.wait(timeout=10) == -signal.SIGKILL
