"""launch.tpu against a stand-in for gcloud: it plays the states of a TPU, and runs ssh commands locally."""

import json
import os
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import tpu

HERE = Path(__file__).parent
WHERE = ["--name", "pod", "--type", "v5e-16", "--zone", "us-west4-a", "--poll", "0.02"]
READY = ["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]

# Stands in for `denoise-jax` on a worker: each start is one line in the "bucket"; the last one finishes.
DENOISE_JAX = """#!{python}
import json, os, pathlib, sys, time
bucket = pathlib.Path({bucket!r})
if sys.argv[1] == "runs":
    print(json.dumps([{{"state": "finished" if (bucket / "finished").exists() else "unfinished"}}]))
    sys.exit()
seen = {{name: os.environ.get(name) for name in ("SECRET", "LIBTPU_INIT_ARGS", "MEGASCALE_STALE")}}
with (bucket / "starts.jsonl").open("a") as starts:
    starts.write(json.dumps({{"argv": sys.argv[1:], **seen}}) + "\\n")
count = len((bucket / "starts.jsonl").read_text().splitlines())
if count <= {lost}:
    time.sleep(60)
(bucket / "finished").touch()
print("done at step 10")
"""


class StandIn:
    """The stand-in's folder: its plan, the calls that it got, and the bucket of the run."""

    def __init__(self, folder: Path):
        self.folder, self.bucket = folder, folder / "bucket"
        self.bucket.mkdir()
        (folder / "bin").mkdir()
        self.plan(lives=[READY])

    def plan(self, *, create=(), lives=(), refused=0, hosts=2) -> None:
        plan = {"create": list(create), "lives": list(lives), "refused": refused, "hosts": hosts}
        (self.folder / "plan.json").write_text(json.dumps(plan))

    def install(self, lost: int = 0) -> None:
        """What a worker has: Python 3.12 and make, which makes an environment. The first `lost` runs hang."""
        program = DENOISE_JAX.format(python=sys.executable, bucket=str(self.bucket), lost=lost)
        made = self.folder / "denoise-jax"
        made.write_text(program)
        made.chmod(0o755)
        pip = self.folder / "python"
        pip.write_text(f'#!/bin/sh\n[ "$2" = pip ] && exit 0\nexec {sys.executable} "$@"\n')
        pip.chmod(0o755)
        lines = f"mkdir -p .venv/bin && cp {made} {pip} .venv/bin && echo $1 $2 > made"
        for name, script in {"make": lines, "python3.12": "exit 0"}.items():
            (self.folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
            (self.folder / "bin" / name).chmod(0o755)

    def calls(self) -> list[list[str]]:
        file = self.folder / "calls.jsonl"
        return [json.loads(line)[2:] for line in file.read_text().splitlines()] if file.exists() else []

    def actions(self) -> list[str]:
        """Calls that change something, without their arguments."""
        named = [f"{kind} {action}" for kind, action, *_ in self.calls()]
        return [name for name in named if not name.endswith("describe")]

    def starts(self) -> list[dict]:
        file = self.bucket / "starts.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def worker(self, index: int = 0, node: str = "pod") -> Path:
        return self.folder / "nodes" / node / str(index)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    folder = tmp_path / "stand-in"
    folder.mkdir()
    monkeypatch.setenv("STAND_IN", str(folder))
    monkeypatch.setenv("PATH", f"{HERE}:{os.environ['PATH']}")
    stand_in = StandIn(folder)
    yield stand_in
    plan = json.loads((folder / "plan.json").read_text())
    if plan.get("life"):
        subprocess.run([HERE / "gcloud", "compute", "tpus", "queued-resources", "delete", "pod"], check=False)


def act(action: str, *flags: str) -> int:
    return tpu.main([action, *WHERE, *flags])


def test_a_tpu_is_created_after_its_cost_was_confirmed(stand_in, capsys, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda prompt: "n")
    assert act("create") == 2
    printed = capsys.readouterr()
    assert "16 chips on 4 hosts, 16 chip-hours per hour, 384 per day" in printed.out
    assert "nothing was created" in printed.err
    assert stand_in.calls() == []
    assert act("create", "--yes", "--spot", "--network", "mine", "--labels", "team=a,use=b") == 0
    create = next(call for call in stand_in.calls() if call[1] == "create")
    assert create == [
        *("queued-resources", "create", "pod", "--node-id=pod"),
        *("--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite"),
        *("--spot", "--network=mine", "--labels=team=a,use=b", "--zone=us-west4-a"),
    ]
    assert "pod: PROVISIONING" in capsys.readouterr().out
    assert act("create", "--yes") == 2
    assert "pod exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--type", "v5-16"], "--type v5-16 is not known; use v5"),
        (["--type", "v5e-12"], "v5e has no slice of this size"),
        (["--type", "tpu7x-64"], "not served by the Cloud TPU API"),
        (["--name", "My_Pod"], "--name My_Pod"),
        (["--zone", "us-west4"], "--zone us-west4 is not a zone"),
        (["--slices", "0"], "--slices 0"),
    ],
)
def test_names_are_checked_before_anything_is_created(stand_in, capsys, flags, message):
    assert act("create", "--yes", *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert stand_in.calls() == []


@pytest.mark.parametrize("states", [["PROVISIONING", "FAILED"], ["WAITING_FOR_RESOURCES", "SUSPENDED"]])
def test_a_request_that_fails_is_deleted(stand_in, capsys, states):
    stand_in.plan(lives=[states])
    assert act("create", "--yes") == 2
    assert f"pod is {states[-1]}" in capsys.readouterr().err
    assert stand_in.actions() == ["queued-resources create", "queued-resources delete"]
    assert not (stand_in.folder / "nodes").exists()


@pytest.mark.parametrize(("keep", "last"), [([], "delete"), (["--keep"], "create")])
def test_an_interrupted_request_is_deleted_unless_it_is_kept(stand_in, capsys, monkeypatch, keep, last):
    stand_in.plan(lives=[["WAITING_FOR_RESOURCES"]])
    sleeps = iter([None, KeyboardInterrupt()])

    def sleep(seconds):
        if (found := next(sleeps, None)) is not None:
            raise found

    monkeypatch.setattr("launch.pod.time.sleep", sleep)
    assert act("create", "--yes", *keep) == 130
    assert stand_in.actions()[-1] == f"queued-resources {last}"
    assert "python -m launch.tpu delete" in capsys.readouterr().err


def test_a_command_survives_quotes_and_spaces_and_secrets_are_not_shown(stand_in, capsys, monkeypatch):
    monkeypatch.setenv("SECRET", "s3cret'\" $HOME")
    monkeypatch.setenv("MEGASCALE_STALE", "10.0.0.1")
    stand_in.plan(lives=[READY], refused=2)
    monkeypatch.setattr("launch.gcloud.time.sleep", lambda seconds: None)
    stand_in.install()
    assert act("create", "--yes") == 0
    assert act("setup", "--allow-dirty") == 0
    assert (stand_in.worker(1) / "denoise_jax" / "made").read_text() == "setup PYTHON=python3.12\n"
    assert (stand_in.worker() / "denoise_jax" / "launch" / "supervise.py").exists()
    command = ["train", "bart_base", "--workdir", "gs://b/a run", "--name", 'it\'s "quoted" & $HOME']
    assert act("run", "--detach", "--env", "SECRET", "--", *command) == 0
    wait_until(lambda: (stand_in.bucket / "finished").exists() and len(stand_in.starts()) == 2)
    for start in stand_in.starts():
        assert start["argv"] == command
        assert start["SECRET"] == "s3cret'\" $HOME"
        assert "--xla_tpu_enable_async_collective_fusion=true" in start["LIBTPU_INIT_ARGS"]
        assert start["MEGASCALE_STALE"] is None
    assert not (stand_in.worker() / "denoise_jax.environment").exists(), "deleted by the supervisor"
    everything = capsys.readouterr()
    assert "s3cret" not in everything.out + everything.err + json.dumps(stand_in.calls())
    wait_until(lambda: act("status") == 0 and "'state': 'ended'" in capsys.readouterr().out)
    assert act("logs") == 0
    assert act("delete") == 0
    assert not (stand_in.folder / "nodes").exists()


def test_a_missing_secret_and_an_uncommitted_change_are_refused(stand_in, capsys, monkeypatch):
    monkeypatch.setattr("launch.pod._git", lambda *arguments: " M file")
    assert act("run", "--env", "NOT_SET_ANYWHERE", "--", "train", "x") == 2
    assert "--env NOT_SET_ANYWHERE is not set" in capsys.readouterr().err
    assert act("setup") == 2
    assert "changes that are not committed" in capsys.readouterr().err
    assert act("run") == 2
    assert "give a command of denoise-jax after --" in capsys.readouterr().err
    assert stand_in.calls() == []


def test_babysit_brings_a_run_through_three_preemptions_and_a_refusal(stand_in, capsys, monkeypatch):
    """Two are preempted while they run, one while it is created; one request is over the quota."""
    lost = [*READY, "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE/PREEMPTED"]
    lives = [lost, lost, ["PROVISIONING", "SUSPENDED"], READY]
    stand_in.plan(create=["ok", "ok", "quota"], lives=lives, hosts=1)
    stand_in.install(lost=2)
    flags = ["--yes", "--spot", "--allow-dirty", "--quota-pause", "0.02"]
    assert act("babysit", *flags, "--", "train", "bart_base", "--workdir", "gs://b/r") == 0
    printed = capsys.readouterr()
    assert printed.out.count("PREEMPTED; making it again") == 2
    assert "Quota limit" in printed.err and "pod is SUSPENDED" in printed.err
    assert "the run has ended" in printed.out
    assert len(stand_in.starts()) == 3
    creates = stand_in.actions().count("queued-resources create")
    assert (creates, stand_in.actions().count("queued-resources delete")) == (5, 4)


def test_stop_asks_the_run_to_save(stand_in, capsys):
    stand_in.install(lost=9)
    assert act("create", "--yes") == 0
    assert act("setup", "--allow-dirty") == 0
    assert act("run", "--detach", "--", "train", "x", "--workdir", "gs://b/r") == 0
    wait_until(lambda: len(stand_in.starts()) == 2)
    assert act("run", "--detach", "--", "train", "x") == 2, "a second run is refused"
    assert act("stop") == 0
    state = stand_in.worker() / "denoise_jax" / "state.json"
    wait_until(lambda: json.loads(state.read_text())["state"] == "stopped")
    assert act("delete") == 0


def test_several_slices_are_named_and_reached_one_by_one(stand_in):
    stand_in.install()
    assert act("create", "--yes", "--slices", "2") == 0
    assert act("ssh", "--slices", "2", "--", "touch", "here") == 0
    assert all((stand_in.worker(i, node) / "here").exists() for node in ("pod-0", "pod-1") for i in (0, 1))
    create = next(call for call in stand_in.calls() if call[1] == "create")
    assert {"--node-prefix=pod", "--node-count=2"} < set(create)


@pytest.mark.parametrize(
    "action", ["create", "setup", "run", "status", "logs", "ssh", "stop", "delete", "babysit"]
)
def test_a_dry_run_prints_commands_and_runs_nothing(stand_in, capsys, action):
    command = ["--", "train", "bart_base", "--name", "it's"] if action in ("run", "babysit", "ssh") else []
    assert act(action, "--dry-run", "--allow-dirty", *command) == 0
    lines = capsys.readouterr().out
    assert shlex.split(lines)[0] == "gcloud" or action in ("create", "babysit")
    assert "gcloud compute tpus" in lines
    assert stand_in.calls() == []


def command_lines() -> list[str]:
    """The commands of docs/pods.md."""
    lines = (HERE.parents[1] / "docs" / "pods.md").read_text().splitlines()
    return [line for line in lines if line.startswith("python -m launch.tpu ")]


@pytest.mark.parametrize("line", command_lines())
def test_commands_of_the_page_on_pods_are_valid(stand_in, capsys, line):
    arguments = shlex.split(line)[3:]
    arguments.insert(1, "--dry-run")
    assert tpu.main([*arguments[:2], "--allow-dirty", *arguments[2:]]) == 0
    assert "gcloud compute tpus" in capsys.readouterr().out


def test_the_file_of_secrets_is_readable_by_its_owner_only(stand_in, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    stand_in.install(lost=9)
    assert act("create", "--yes") == 0
    (stand_in.worker() / "denoise_jax").mkdir()
    monkeypatch.setattr("launch.pod.FOLDER", "nowhere")
    assert act("run", "--env", "SECRET", "--", "train") == 2
    mode = stat.S_IMODE((stand_in.worker() / "denoise_jax.environment").stat().st_mode)
    assert mode == 0o600


def wait_until(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
