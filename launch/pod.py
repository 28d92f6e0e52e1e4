"""A TPU of one or more slices as queued resource: created, set up, run on, watched and deleted.

Every method either runs gcloud or, with a dry run, prints what it would run.
"""

import contextlib
import dataclasses
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from launch.flags import libtpu_init_args
from launch.gcloud import Gcloud, GcloudError
from launch.tpu_types import LaunchError, Slice

ROOT = Path(__file__).parents[1]
FOLDER = "denoise_jax"  # in the home folder of a worker
WAITING = ("ACCEPTED", "PROVISIONING", "CREATING", "WAITING_FOR_RESOURCES")
GONE = "NOT_FOUND"
LOST = ("PREEMPTED", "SUSPENDING", "SUSPENDED", "FAILED", "TERMINATED", "DELETING", GONE)


@dataclasses.dataclass(frozen=True)
class Pod:
    """A queued resource `name` with `slices` nodes.

    Fields:
      poll: seconds between looks at its state.
      options: further flags of `queued-resources create`, such as --spot.
    """

    name: str
    slice: Slice
    gcloud: Gcloud
    slices: int = 1
    runtime_version: str | None = None
    options: tuple[str, ...] = ()
    poll: float = 30.0

    @property
    def nodes(self) -> list[str]:
        """Names of the TPU VMs, one for each slice."""
        return [self.name] if self.slices == 1 else [f"{self.name}-{index}" for index in range(self.slices)]

    @property
    def chips(self) -> int:
        """Of all slices."""
        return self.slice.chips * self.slices

    def create(self, *, keep: bool = False) -> None:
        """Requests the resource, and waits until it is active.

        If that fails or is interrupted, the request is deleted, unless `keep`.

        Raises:
          LaunchError: the request was refused, or has failed.
        """
        names = [f"--node-id={self.name}"]
        if self.slices > 1:
            names = [f"--node-prefix={self.name}", f"--node-count={self.slices}"]
        version = self.runtime_version or self.slice.generation.runtime_version
        kind = [f"--accelerator-type={self.slice.accelerator_type}", f"--runtime-version={version}"]
        if not self.gcloud.dry_run and self.state() != GONE:
            raise LaunchError(f"{self.name} exists already; use another name, or `delete` it first")
        try:
            self.gcloud.tpu("queued-resources", "create", self.name, *names, *kind, *self.options)
            self._wait_until_active()
        except BaseException:
            if keep:
                remedy = "`python -m launch.tpu delete` removes it"
                print(f"{self.name} is left as it is; {remedy}", file=sys.stderr)
            else:
                with contextlib.suppress(LaunchError):
                    self.delete()
            raise

    def _wait_until_active(self) -> None:
        if self.gcloud.dry_run:
            self.state()
            return
        shown = None
        while (state := self.state()) != "ACTIVE":
            if state not in WAITING:
                raise LaunchError(f"{self.name} is {state}: it cannot be created")
            if state != shown:
                print(f"{self.name}: {state}", flush=True)
                shown = state
            time.sleep(self.poll)

    def state(self) -> str:
        """The state of the queued resource, or of a node that is not READY; NOT_FOUND if there is none."""
        described = self._describe("queued-resources", self.name, "value(state.state)")
        if described != "ACTIVE":
            return described
        for node in self.nodes:
            found = self._describe("tpu-vm", node, "value(state)")
            if found != "READY":
                return found
        return "ACTIVE"

    def _describe(self, kind: str, name: str, value: str) -> str:
        try:
            return self.gcloud.tpu(kind, "describe", name, f"--format={value}").strip() or GONE
        except GcloudError as error:
            if "NOT_FOUND" in error.output or "not found" in error.output.lower():
                return GONE
            raise

    def delete(self) -> None:
        """Deletes the resource and its nodes, and checks that they are gone."""
        try:
            self.gcloud.tpu("queued-resources", "delete", self.name, "--force", "--quiet")
        except GcloudError as error:
            if "NOT_FOUND" not in error.output and "not found" not in error.output.lower():
                raise
        for left in reversed(range(60)):
            if self.gcloud.dry_run or self.state() == GONE:
                return
            if not left:
                raise LaunchError(f"{self.name} is still there; look at it in the console: it costs money")
            time.sleep(self.poll)

    def setup(self, *, allow_dirty: bool = False) -> None:
        """Installs the working tree's commit with its locked requirements on every worker.

        Raises:
          LaunchError: there are changes that are not committed, and not `allow_dirty`.
        """
        commit = _git("rev-parse", "HEAD")
        if _git("status", "--porcelain") and not allow_dirty:
            raise LaunchError("there are changes that are not committed: commit them, or give --allow-dirty")
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "source.tar.gz"
            _git("archive", "--format=tar.gz", f"--output={archive}", commit)
            for node in self.nodes:
                self.gcloud.copy(str(archive), node, "source.tar.gz")
        commands = [
            f"mkdir -p {FOLDER}",
            f"tar xzf source.tar.gz -C {FOLDER}",
            f"cd {FOLDER}",
            f"echo {commit} > COMMIT",
            # Runtime versions have Python 3.10.
            "{ command -v python3.12 >/dev/null || { sudo add-apt-repository -y ppa:deadsnakes/ppa && "
            "sudo apt-get install -y -q python3.12 python3.12-venv python3.12-dev; }; }",
            "make setup PYTHON=python3.12",
            ".venv/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements-tpu.txt",
        ]
        for node in self.nodes:
            self.gcloud.ssh(node, " && ".join(commands))

    def run(self, command: Sequence[str], *, secrets: Sequence[str] = (), tpu_flags: bool = True) -> None:
        """Starts `denoise-jax COMMAND` on all workers, under a supervisor that survives the connection.

        Args:
          secrets: names of environment variables of this machine to set there. Their values are copied in a
            file that only its owner can read and that the supervisor deletes; they are never printed.
        """
        missing = [name for name in secrets if name not in os.environ]
        if missing:
            raise LaunchError(f"--env {missing[0]} is not set on this machine")
        for node in self.nodes:
            if secrets:
                self._copy_secrets(node, secrets)
        start = ["python", "-m", "launch.supervise", "--state", "state.json", "--pid", "supervisor.pid"]
        start += ["--environment", "../denoise_jax.environment", "--", "denoise-jax", *command]
        arguments = libtpu_init_args(self.slice.generation.name) if tpu_flags else ""
        lines = [
            f"cd {FOLDER} || exit 3",
            "{ test ! -e supervisor.pid || ! kill -0 $(cat supervisor.pid) 2>/dev/null; } || "
            "{ echo 'a run is active on this worker: stop it first' >&2; exit 3; }",
            "rm -f state.json",
            'export PATH="$PWD/.venv/bin:$PATH"',
            f"export LIBTPU_INIT_ARGS={shlex.quote(arguments)}",
            f"nohup setsid {shlex.join(start)} > run.log 2>&1 < /dev/null & sleep 1",
        ]
        for node in self.nodes:
            self.gcloud.ssh(node, "\n".join(lines))

    def _copy_secrets(self, node: str, names: Sequence[str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "environment"
            file.touch(mode=0o600)
            file.write_text("".join(json.dumps([name, os.environ[name]]) + "\n" for name in names))
            self.gcloud.ssh(node, "touch denoise_jax.environment && chmod 600 denoise_jax.environment")
            self.gcloud.copy(str(file), node, "denoise_jax.environment")

    def supervisor_state(self) -> dict | None:
        """What the supervisor of worker 0 says; None if nothing has been started."""
        printed = self.gcloud.ssh(self.nodes[0], f"cat {FOLDER}/state.json 2>/dev/null || true", worker="0")
        return json.loads(printed) if printed.strip() else None

    def stop(self) -> None:
        """Asks the run to save a checkpoint and to end: SIGTERM to the supervisors of all workers."""
        for node in self.nodes:
            self.gcloud.ssh(node, f"kill -TERM $(cat {FOLDER}/supervisor.pid) 2>/dev/null || true")

    def logs(self, *, lines: int = 50, follow: bool = False) -> None:
        """Prints the end of worker 0's log, and with `follow` what is added."""
        flags = f"-n {lines}" + " -F" * follow
        self.gcloud.ssh(self.nodes[0], f"tail {flags} {FOLDER}/run.log", worker="0", live=True)

    def babysit(self, start: Callable[[], None], *, quota_pause: float = 300.0) -> dict:
        """Keeps the run going until it has ended: a TPU that is lost is deleted, made again and set up.

        Args:
          start: sets up and starts the run on a new TPU; the run resumes from its newest checkpoint.
          quota_pause: seconds to wait when a request is refused for quota or capacity.

        Returns:
          The last state of the supervisor, whose `state` is "ended" or "failed".
        """
        stopped = 0
        while True:
            state = self.state()
            if state in LOST:
                print(f"{self.name}: {state}; making it again", flush=True)
                if state != GONE:
                    self.delete()
                try:
                    self.create()
                    start()
                except LaunchError as error:
                    print(f"{error}; trying again in {quota_pause:g} s", file=sys.stderr, flush=True)
                    time.sleep(quota_pause)
                    continue
            elif state == "ACTIVE":
                found = self._supervisor_or_none()
                if found is not None and found["state"] in ("ended", "failed"):
                    return found
                # A preemption first stops the run; if the TPU stays, something else has stopped it.
                stopped = stopped + 1 if found is not None and found["state"] == "stopped" else 0
                if stopped == 3:
                    start()
            time.sleep(self.poll)

    def _supervisor_or_none(self) -> dict | None:
        try:
            return self.supervisor_state()
        except GcloudError:  # the worker may just have been lost
            return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
