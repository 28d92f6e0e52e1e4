"""Writers of metrics: always metrics.jsonl, and TensorBoard, Weights & Biases or MLflow if configured."""

import hashlib
import importlib.util
import json
import os
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import scalar

from denoise_jax.config import Config
from denoise_jax.errors import ConfigError
from denoise_jax.files import AppendedFile, write_atomically
from denoise_jax.parallel.processes import is_first
from denoise_jax.paths import absolute
from denoise_jax.runs.list_runs import METRICS, parse_metrics

JSONL = METRICS


class Writer(Protocol):
    """Records scalars by step."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Records `values`, name → number, after `step` updates."""

    def close(self) -> None:
        """Flushes what was written and closes."""


class JsonlWriter:
    """One JSON object per line."""

    def __init__(self, file: Path, resume_step: int):
        """Keeps the lines up to `resume_step`; later ones are computed again."""
        kept = [line for line in read_lines(file) if line["step"] <= resume_step]
        write_atomically(file, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = AppendedFile(file)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line."""
        self._file.append(json.dumps({"step": step, **values}).encode() + b"\n")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class TensorBoardWriter:
    """A TensorBoard event file, made of tensorboardX's records.

    Its own `SummaryWriter` hangs when the disk is full: the thread that writes ends, and its queue fills up.
    """

    def __init__(self, folder: Path, resume_step: int):
        """Events after `resume_step` in older files are hidden; the steps are computed again."""
        folder.mkdir(parents=True, exist_ok=True)
        # Without the last part, two files of one second have the same name.
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{resume_step}"
        self._file = AppendedFile(folder / name)
        self._file.append(_event(file_version="brain.Event:2"))
        if resume_step:
            start = _event(step=resume_step + 1, session_log=SessionLog(status=SessionLog.START))
            self._file.append(start)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a scalar for each value."""
        events = [_event(step=step, summary=scalar(name, value)) for name, value in values.items()]
        self._file.append(b"".join(events))  # at once: each append waits for the disk

    def close(self) -> None:
        """Closes the event file."""
        self._file.close()


class WandbWriter:
    """Weights & Biases; resuming a folder continues its run there."""

    def __init__(self, folder: Path, run: Path, config: Config):
        wandb = _optional("wandb")
        settings = {"project": "denoise_jax", "name": config.name, "dir": str(folder), "resume": "allow"}
        identity = hashlib.sha256(os.fspath(absolute(run)).encode()).hexdigest()[:16]
        self._run = wandb.init(config=config.model_dump(), id=identity, **settings)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the values at `step`."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


class MlflowWriter:
    """MLflow, under the experiment `denoise_jax`."""

    def __init__(self, run: Path, config: Config):
        self._mlflow = _optional("mlflow")
        self._mlflow.set_experiment("denoise_jax")
        self._mlflow.start_run(run_name=f"{config.name} {absolute(run).name}")
        self._mlflow.log_dict(config.model_dump(mode="json"), "config.json")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the values at `step`."""
        self._mlflow.log_metrics({name.replace("/", "."): value for name, value in values.items()}, step=step)

    def close(self) -> None:
        """Ends the run."""
        self._mlflow.end_run()


def check_writers(names: Sequence[str]) -> None:
    """ConfigError if the package of a writer is not installed."""
    for name in names:
        if name != "tensorboard" and importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"training.writers: {name} is not installed; install the extra [{name}] or leave it out"
            )


def open_writers(folder: Path, run: Path, config: Config, resume_step: int) -> list[Writer]:
    """metrics.jsonl and the writers in `training.writers`; none on all but the first process.

    Args:
      folder: a local folder, for the files.
      run: the run folder, by which services know the run.
    """
    if not is_first():
        return []
    make = {
        "tensorboard": lambda: TensorBoardWriter(folder / "tensorboard", resume_step),
        "wandb": lambda: WandbWriter(folder, run, config),
        "mlflow": lambda: MlflowWriter(run, config),
    }
    others = [make[name]() for name in config.training.writers]
    return [JsonlWriter(folder / JSONL, resume_step), *others]


def write_all(writers: Sequence[Writer], step: int, values: Mapping[str, float]) -> None:
    """Passes the values to every writer."""
    for writer in writers:
        writer.write(step, values)


def read_lines(file: Path) -> list[dict]:
    """Lines of a metrics.jsonl; see `parse_metrics`."""
    return parse_metrics(file.read_bytes()) if file.exists() else []


def _event(**content: object) -> bytes:
    """A record of a TensorBoard file."""
    data = Event(wall_time=time.time(), **content).SerializeToString()
    length = struct.pack("<Q", len(data))  # TFRecord: length, content, each with a checksum
    checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return length + checksums[0] + data + checksums[1]


def _optional(name: str):
    check_writers([name])
    return importlib.import_module(name)
