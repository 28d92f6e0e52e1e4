"""Runs a command on one host until it has ended well: `python -m launch.supervise --state FILE -- COMMAND`.

launch.tpu starts it on every worker. It uses the standard library only, and is not needed where another
supervisor restarts a run (GKE, Slurm).
"""

import argparse
import dataclasses
import glob
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

NOT_RETRIED = (0, 1, 2)  # done or stopped; the run failed; the user's mistake
HEALTHY = 600.0  # seconds after which the pause and the count of restarts start anew
DEVICES = ("/dev/accel*", "/dev/vfio/[0-9]*")


@dataclasses.dataclass
class State:
    """What `launch.tpu status` shows of a worker."""

    state: str  # running, restarting, stopped (a checkpoint is saved, steps are left), ended or failed
    restarts: int
    code: int | None  # exit code of the last run
    command: list[str]
    updated: float  # seconds since 1970

    def write(self, file: Path) -> None:
        """Writes the state atomically, as JSON."""
        self.updated = time.time()
        temporary = file.with_name(file.name + ".new")
        temporary.write_text(json.dumps(dataclasses.asdict(self)))
        temporary.replace(file)


class Supervisor:
    """Runs `command`, and again if it ends with a code that is worth a retry.

    Args of the constructor:
      restarts: give up after so many in a row, of which none ran for `HEALTHY` seconds.
      pause: seconds before the first restart; doubled for each one that follows, up to 5 minutes.
    """

    def __init__(self, command: Sequence[str], state_file: Path, *, restarts: int = 20, pause: float = 5.0):
        self._command, self._file = list(command), state_file
        self._restarts, self._pause = restarts, pause
        self._process: subprocess.Popen | None = None
        self._stopping = False

    def run(self) -> int:
        """Runs to the end, and returns the last exit code. SIGTERM is passed on, and ends it."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        state, in_a_row = State("running", 0, None, self._command, 0.0), 0
        while True:
            free_devices()
            state.state = "running"
            state.write(self._file)
            started = time.monotonic()
            self._process = subprocess.Popen(self._command, env=environment())
            if self._stopping:
                self._process.terminate()
            code = self._process.wait()
            state.code = code
            if code in NOT_RETRIED or self._stopping:
                break
            in_a_row = 1 if time.monotonic() - started > HEALTHY else in_a_row + 1
            if in_a_row > self._restarts:
                break
            state.state, state.restarts = "restarting", state.restarts + 1
            state.write(self._file)
            print(f"supervise: ended with code {code}; starting again", file=sys.stderr, flush=True)
            time.sleep(min(self._pause * 2 ** (in_a_row - 1), 300))
        state.state = "failed"
        if code == 0 or self._stopping:
            state.state = "ended" if code == 0 and is_finished(self._command) else "stopped"
        state.write(self._file)
        return code

    def _stop(self, number: int, frame: object) -> None:
        self._stopping = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)


def is_finished(command: Sequence[str]) -> bool:
    """Whether `denoise-jax train ... --workdir RUN` has done all its steps; true of other commands."""
    if "--workdir" not in command[:-1]:
        return True
    run = command[command.index("--workdir") + 1]
    listed = subprocess.run([command[0], "runs", run, "--json"], capture_output=True, text=True, check=False)
    return listed.returncode == 0 and all(found["state"] == "finished" for found in json.loads(listed.stdout))


def environment() -> dict[str, str]:
    """The environment without MEGASCALE_*, which name hosts that are gone after a preemption."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MEGASCALE_")}


def free_devices(patience: float = 30.0, devices: Sequence[str] = DEVICES) -> None:
    """Waits until no other process has a TPU device open; after `patience` seconds it is killed."""
    deadline = time.monotonic() + patience
    while holders := _holders(devices):
        late = time.monotonic() > deadline
        for pid in holders if late else ():
            print(f"supervise: killing process {pid}, which holds a TPU device", file=sys.stderr, flush=True)
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                return
        time.sleep(0.5)


def _holders(patterns: Sequence[str]) -> set[int]:
    devices = {path for pattern in patterns for path in glob.glob(pattern)}
    found: set[int] = set()
    if not devices:
        return found
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            target = os.readlink(link)
        except OSError:  # the process has ended, or is another user's
            continue
        if target in devices:
            found.add(int(link.split("/")[2]))
    return found - {os.getpid()}


def read_environment(file: Path) -> None:
    """Sets the variables in `file`, lines NAME=VALUE as JSON strings, and deletes it: it may hold secrets."""
    for line in file.read_text().splitlines():
        name, value = json.loads(line)
        os.environ[name] = value
    file.unlink()


def main(argv: Sequence[str]) -> int:
    """Parses the command line, and supervises."""
    parser = argparse.ArgumentParser("launch.supervise", description="Restarts a command that is worth it.")
    parser.add_argument("--state", type=Path, required=True, help="JSON file that says how it goes")
    parser.add_argument("--pid", type=Path, help="file for the process id of the supervisor")
    parser.add_argument("--environment", type=Path, help="file of variables to set; it is deleted")
    parser.add_argument("--restarts", type=int, default=20, help="in a row")
    parser.add_argument("--pause", type=float, default=5.0, help="seconds before the first restart")
    parser.add_argument("command", nargs="+", help="after --")
    arguments = parser.parse_args(argv)
    if arguments.environment is not None and arguments.environment.exists():
        read_environment(arguments.environment)
    if arguments.pid is not None:
        arguments.pid.write_text(str(os.getpid()))
    options = {"restarts": arguments.restarts, "pause": arguments.pause}
    return Supervisor(arguments.command, arguments.state, **options).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
