"""A run of several processes on this machine, to rehearse a pod: `python -m launch.local -- train ...`.

    python -m launch.local --processes 2 --devices 4 -- train quickstart --data.shards 2 --workdir runs/pod

`--kill-every 60` kills one of the processes every minute or so.

Each process has virtual CPU devices of its own. As on a pod, if one process ends badly the others end too,
and all are started again; the run resumes from its newest checkpoint.
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

COMMAND = [sys.executable, "-m", "denoise_jax.cli.main"]
HEARTBEAT_TIMEOUT = 10  # seconds; the default of `denoise-jax` is for pods
NOT_RETRIED = (0, 1, 2)  # done or stopped; the run failed; the user's mistake


def run(
    command: Sequence[str],
    *,
    processes: int = 2,
    devices: int = 4,
    kill_every: float | None = None,
    kills: int | None = None,
    restarts: int = 10,
    seed: int = 0,
) -> int:
    """Runs `denoise-jax COMMAND` in several processes until they all end well, and returns their exit code.

    SIGTERM and Ctrl-C are passed on to all processes.

    Args:
      command: arguments of `denoise-jax`: a sub-command that takes --coordinator, and what it needs.
      devices: virtual CPU devices of each process.
      kill_every: mean number of seconds after which one process, chosen at random, is killed (SIGKILL).
      kills: kill at most so often; None: until the run ends.
      restarts: give up after so many restarts that no kill has caused.
      seed: of the kills.
    """
    chance, left = random.Random(seed), kills
    with _Forwarding() as forwarding:
        while True:
            started = forwarding.started = _start(command, processes, devices)
            deadline = None
            if kill_every is not None and left != 0:
                deadline = time.monotonic() + chance.uniform(0.5, 1.5) * kill_every
            killed = _wait(started, deadline, chance)
            codes = [process.returncode for process in started]
            if killed:
                left = None if left is None else left - 1
            elif all(code in NOT_RETRIED for code in codes) or forwarding.requested:
                return max(code if code >= 0 else 128 - code for code in codes)
            elif restarts == 0:
                print(f"launch.local: ended with codes {codes}; giving up", file=sys.stderr)
                return 1
            else:
                restarts -= 1
            print(f"launch.local: ended with codes {codes}; starting again", file=sys.stderr, flush=True)


def _start(command: Sequence[str], processes: int, devices: int) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in flag]
    flags.append(f"--xla_force_host_platform_device_count={devices}")
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(flags)}
    connection = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(processes)]
    connection += ["--heartbeat-timeout", str(HEARTBEAT_TIMEOUT)]
    whole = [*COMMAND, *command, *connection, "--process-id"]
    return [subprocess.Popen([*whole, str(index)], env=environment) for index in range(processes)]


def _wait(started: list[subprocess.Popen], deadline: float | None, chance: random.Random) -> bool:
    """Waits for all processes; whether one of them was killed at `deadline`. All end if one ends badly."""
    killed, grace = False, None
    while any(process.poll() is None for process in started):
        now = time.monotonic()
        if deadline is not None and not killed and now > deadline:
            victim = chance.choice([process for process in started if process.poll() is None])
            print(f"launch.local: killing process {started.index(victim)}", file=sys.stderr, flush=True)
            victim.kill()
            killed = True
        if grace is None and any(process.poll() not in (None, 0) for process in started):
            grace = now + 3 * HEARTBEAT_TIMEOUT
        if grace is not None and now > grace:
            for process in started:
                process.kill()
        time.sleep(0.1)
    return killed


class _Forwarding:
    """Passes SIGTERM and Ctrl-C on to the processes in `started`, as a context manager."""

    def __init__(self):
        self.started: list[subprocess.Popen] = []
        self.requested = False

    def __enter__(self) -> "_Forwarding":
        self._previous = {number: signal.signal(number, self._forward) for number in (signal.SIGTERM,)}
        # Ctrl-C reaches the processes by itself, since they share this terminal.
        self._previous[signal.SIGINT] = signal.signal(signal.SIGINT, self._remember)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: object) -> None:
        self.requested = True

    def _forward(self, number: int, frame: object) -> None:
        self.requested = True
        for process in self.started:
            if process.poll() is None:
                process.send_signal(number)


def main(argv: Sequence[str]) -> int:
    """Parses the command line, and runs it."""
    parser = argparse.ArgumentParser("launch.local", description="A pod rehearsed on this machine.")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--devices", type=int, default=4, help="virtual CPU devices of each process")
    parser.add_argument("--kill-every", type=float, metavar="S", help="kill a process every S seconds or so")
    parser.add_argument("--kills", type=int, help="kill at most so often")
    parser.add_argument("--restarts", type=int, default=10, help="after ends that no kill has caused")
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("command", nargs="+", help="after --: a command of denoise-jax and its arguments")
    arguments = vars(parser.parse_args(argv))
    return run(arguments.pop("command"), **arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
