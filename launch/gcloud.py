"""Calls of gcloud: printed with --dry-run, retried where the network is at fault, and quoted."""

import dataclasses
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence

from launch.tpu_types import LaunchError

RETRIES = 5


class GcloudError(LaunchError):
    """gcloud failed; `output` is what it wrote to stderr."""

    def __init__(self, command: Sequence[str], output: str):
        lines = [line for line in output.strip().splitlines() if line.strip()]
        self.output = output
        super().__init__(f"{' '.join(command[:5])} failed: {lines[-1] if lines else 'without a message'}")


@dataclasses.dataclass(frozen=True)
class Gcloud:
    """gcloud for one project and zone.

    With `dry_run`, commands are printed, shell-quoted, and not run.
    """

    zone: str
    project: str | None = None
    dry_run: bool = False
    pause: float = 10.0  # seconds before a retry

    def tpu(self, *arguments: str, check: bool = True, live: bool = False) -> str:
        """Runs `gcloud compute tpus ARGUMENTS`, and returns what it printed.

        Args:
          check: raise GcloudError if it fails; else return what it wrote to stderr.
          live: let it print to the terminal, and return "".
        """
        command = ["gcloud", "compute", "tpus", *arguments, f"--zone={self.zone}"]
        command += [f"--project={self.project}"] if self.project else []
        if self.dry_run:
            print(shlex.join(command), flush=True)
            return ""
        try:
            done = subprocess.run(command, capture_output=not live, text=True, check=False)
        except FileNotFoundError:
            raise LaunchError("gcloud is not installed: install the Google Cloud CLI") from None
        if done.returncode and check:
            raise GcloudError(command, done.stderr or "")
        return (done.stdout or "") if not done.returncode else (done.stderr or "")

    def ssh(self, node: str, command: str, *, worker: str = "all", live: bool = False) -> str:
        """Runs a shell command on workers of a node; a connection that fails is tried again."""
        arguments = ["tpu-vm", "ssh", node, f"--worker={worker}", f"--command={command}"]
        return self._retried(*arguments, live=live)

    def copy(self, file: str, node: str, target: str) -> None:
        """Copies a file to all workers of a node."""
        self._retried("tpu-vm", "scp", file, f"{node}:{target}", "--worker=all")

    def _retried(self, *arguments: str, live: bool = False) -> str:
        for left in reversed(range(RETRIES)):
            try:
                return self.tpu(*arguments, live=live)
            except GcloudError as error:
                if not left or not _is_connection(error.output):
                    raise
                print(f"{error}; trying again", file=sys.stderr, flush=True)
                time.sleep(self.pause)
        return ""


def _is_connection(output: str) -> bool:
    """Whether ssh itself failed, and not the command that it ran."""
    signs = (
        "Connection refused",
        "Connection timed out",
        "Connection closed",
        "Connection reset",
        "code [255]",
    )
    return any(sign in output for sign in signs)
