"""The lock of a run in a bucket: one holder, taken over only from a dead one."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from denoise_jax.errors import ConfigError
from denoise_jax.paths import to_path
from denoise_jax.runs import lease
from denoise_jax.runs.lease import Lease


@pytest.fixture
def lock(bucket, request, monkeypatch):
    """An own path for each test; a second is a long time here."""
    monkeypatch.setattr(lease, "RENEWAL", 0.1)
    monkeypatch.setattr(lease, "EXPIRY", 1.0)
    monkeypatch.setattr(lease, "_POLL", 0.05)
    return to_path(bucket) / request.node.name / ".lock"


def hold_elsewhere(lock, host="another-host", pid=1) -> None:
    lock.write_text(json.dumps({"host": host, "pid": pid, "id": "x"}))


def test_a_living_holder_is_respected(lock):
    holder = Lease(lock)
    started = time.monotonic()
    with pytest.raises(ConfigError, match=f"another process.*is training in workdir {lock.parent}"):
        Lease(lock)
    assert time.monotonic() - started < lease.EXPIRY, "its renewals are seen before it could expire"
    holder.close()
    assert not lock.exists()
    Lease(lock).close()


def test_a_holder_that_is_not_renewed_is_taken_over(lock):
    hold_elsewhere(lock)
    started = time.monotonic()
    Lease(lock).close()
    assert time.monotonic() - started >= lease.EXPIRY


def test_a_dead_process_of_this_host_is_taken_over_at_once(lock):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    hold_elsewhere(lock, socket.gethostname(), ended.pid)
    started = time.monotonic()
    Lease(lock).close()
    assert time.monotonic() - started < lease.EXPIRY


def test_of_two_that_take_over_one_wins(lock):
    hold_elsewhere(lock)
    program = (
        "import sys; from denoise_jax.paths import to_path; from denoise_jax.runs import lease\n"
        "lease.EXPIRY = 1.0; lease.RENEWAL = 0.1; lease._POLL = 0.05\n"
        "lease.Lease(to_path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(lock)]
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    both = [subprocess.Popen(command, text=True, **pipes) for _ in range(2)]
    deadline = time.monotonic() + 30
    while all(process.poll() is None for process in both) and time.monotonic() < deadline:
        time.sleep(0.05)
    outputs = [process.communicate("") for process in both]
    assert sorted(output for output, _ in outputs) == ["", "held\n"]
    assert any("is training in workdir" in error for _, error in outputs)


def test_a_process_whose_lock_was_taken_ends(lock):
    program = (
        "import sys, time; from denoise_jax.paths import to_path; from denoise_jax.runs import lease\n"
        "lease.RENEWAL = 0.1; lease.Lease(to_path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(lock)]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == "held\n"
        hold_elsewhere(lock)
        assert process.wait(timeout=10) == 2
        assert "another process has taken" in process.stderr.read()


def test_a_deleted_lock_is_written_again(lock):
    holder = Lease(lock)
    lock.unlink()
    deadline = time.monotonic() + 5
    while not lock.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert json.loads(lock.read_text())["pid"] == os.getpid()
    holder.close()
    assert not lock.exists()
