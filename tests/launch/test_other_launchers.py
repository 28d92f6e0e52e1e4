"""launch/slurm.sh and launch/skypilot.yaml: free of shell mistakes, and starting a command that exists."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.mark.parametrize("name", ["slurm.sh"])
def test_shell_scripts_have_no_mistakes(name):
    subprocess.run([SHELLCHECK, LAUNCH / name], check=True)


@pytest.mark.parametrize("part", ["setup", "run"])
def test_the_shell_of_skypilots_tasks_has_no_mistakes(part, tmp_path):
    text = (LAUNCH / "skypilot.yaml").read_text()
    block = re.search(rf"^{part}: \|\n((?:  .*\n|\n)+)", text, re.MULTILINE)[1]
    script = tmp_path / "task.sh"
    script.write_text("#!/bin/bash\n" + re.sub("^  ", "", block, flags=re.MULTILINE))
    # The environment does not exist yet, and variables are set by SkyPilot.
    subprocess.run([SHELLCHECK, "--exclude=SC1091,SC2154", script], check=True)


@pytest.mark.parametrize(
    ("status", "state", "requeued", "code"),
    [
        (0, "finished", False, 0),
        (0, "unfinished", True, 0),
        (134, "unfinished", True, 0),
        (1, "unfinished", False, 1),
    ],
)
def test_a_slurm_job_queues_itself_again_until_the_run_is_finished(tmp_path, status, state, requeued, code):
    programs = {
        "srun": f"exit {status}",
        "denoise-jax": f'echo \'"state": "{state}"\'',
        "scontrol": f"echo $* > {tmp_path}/requeued",
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    command = [LAUNCH / "slurm.sh", "train", "bart_base", "--workdir", "/shared/a run"]
    assert subprocess.run(command, env=environment, check=False).returncode == code
    file = tmp_path / "requeued"
    assert file.exists() == requeued
    assert not requeued or file.read_text() == "requeue 7\n"
