"""Which runs and checkpoints there are: read from names and small files, without opening a model."""

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Literal

from denoise_jax.errors import CheckpointError, UserError
from denoise_jax.paths import is_remote, reachable_path
from denoise_jax.runs.run_folder import CHECKPOINTS, CONFIG, DAMAGED, is_run, newest_step, read_config

METRICS = "metrics.jsonl"


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """A run folder at a glance."""

    run: str
    name: str  # of the configuration
    state: Literal["finished", "unfinished", "imported", "unreadable"]
    step: int | None  # of the newest checkpoint
    num_steps: int | None
    loss: float | None  # training loss of the last log line, nats per target token
    updated: str | None  # when the metrics were written last, ISO 8601, UTC


@dataclasses.dataclass(frozen=True)
class CheckpointSummary:
    """A checkpoint of a run."""

    step: int
    state: Literal["complete", "damaged"]  # damaged: set aside by a resumed run
    bytes: int
    saved: str | None  # ISO 8601, UTC
    loss: float | None  # of the validation at this step, nats per target token
    hidden_accuracy: float | None  # of the validation at this step
    verified: bool | None = None  # None: not verified


def list_runs(folder: str | Path) -> list[RunSummary]:
    """The runs in `folder` and one level below its sub-folders, or `folder` itself if it is a run.

    Raises:
      UserError: there is no such folder.
    """
    folder = reachable_path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; name one with runs in it, or a run")
    if is_run(folder):
        return [_summary(folder)]
    below = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    found = []
    for entry in below:
        deeper = [] if is_run(entry) else sorted(inner for inner in entry.iterdir() if inner.is_dir())
        found += [candidate for candidate in (entry, *deeper) if is_run(candidate)]
    return [_summary(run) for run in found]


def list_checkpoints(run: str | Path, *, verify: bool = False) -> list[CheckpointSummary]:
    """The checkpoints of a run, ascending.

    Args:
      verify: read each complete checkpoint, and compare it with the fingerprints that were saved with it.

    Raises:
      CheckpointError: `run` is not a run.
    """
    folder = reachable_path(run)
    if not is_run(folder):
        raise CheckpointError(f"{folder} is not a run: it has no {CONFIG}; `denoise-jax runs` lists runs")
    validations = {line["step"]: line for line in read_metrics(folder) if "validation/loss" in line}
    checkpoints = folder / CHECKPOINTS
    found = []
    for entry in checkpoints.iterdir() if checkpoints.is_dir() else ():
        step = entry.name.removeprefix(DAMAGED).split("-")[0]  # damaged-6-2: set aside for the second time
        if not step.isdecimal():
            continue
        measured = validations.get(int(step), {})
        complete = entry.name == step
        found.append(
            CheckpointSummary(
                int(step),
                "complete" if complete else "damaged",
                *_size_and_date(entry),
                measured.get("validation/loss"),
                measured.get("validation/hidden_accuracy"),
                _is_intact(checkpoints, int(step)) if verify and complete else None,
            )
        )
    return sorted(found, key=lambda checkpoint: (checkpoint.step, checkpoint.state))


def read_metrics(run: Path) -> list[dict]:
    """Lines of a run's metrics.jsonl; see `parse_metrics`."""
    file = run / METRICS
    return parse_metrics(file.read_bytes()) if file.exists() else []


def parse_metrics(content: bytes) -> list[dict]:
    """The lines that a run has written: objects with a whole `step`, and numbers for metrics (`train/loss`).

    Other lines, such as one that a kill or a full disk cut short, are left out.
    """
    return [line for line in map(_parse_line, content.splitlines()) if line is not None]


def _parse_line(text: bytes) -> dict | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or brackets by the thousand
        return None
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        return None
    numbers = all(type(value) in (int, float) for name, value in line.items() if "/" in name)
    return line if numbers else None


def _summary(run: Path) -> RunSummary:
    step = newest_step(run)
    try:
        config = read_config(run)
    except CheckpointError:
        return RunSummary(str(run), "", "unreadable", step, None, None, None)
    num_steps = config.training.num_steps
    losses = [line["train/loss"] for line in read_metrics(run) if "train/loss" in line]
    state = "finished" if step is not None and step >= num_steps else "unfinished"
    if config.data.task is None:
        state, num_steps = "imported", None
    metrics = run / METRICS
    updated = _date(metrics.stat().mtime if is_remote(run) else metrics.stat().st_mtime) if losses else None
    return RunSummary(str(run), config.name, state, step, num_steps, losses[-1] if losses else None, updated)


def _size_and_date(folder: Path) -> tuple[int, str | None]:
    """Bytes of all files below, and when the newest was written."""
    size, newest = 0, 0.0
    pending = [folder]
    while pending:
        for entry in pending.pop().iterdir():
            if entry.is_dir():
                pending.append(entry)
                continue
            found = entry.stat()
            size += found.length if is_remote(entry) else found.st_size
            newest = max(newest, found.mtime if is_remote(entry) else found.st_mtime)
    return size, _date(newest)


def _date(seconds: float) -> str | None:
    if not seconds:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def _is_intact(checkpoints: Path, step: int) -> bool:
    from denoise_jax.runs.checkpoint import Checkpointer

    try:
        Checkpointer(checkpoints, read_only=True).verify(step)
    except CheckpointError:
        return False
    return True
