"""Writers of metrics: always metrics.jsonl, and TensorBoard, Weights & Biases or MLflow if configured."""

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from denoise_jax.config import Config
from denoise_jax.errors import ConfigError
from denoise_jax.files import write_atomically
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
    """One JSON object per line, written at once, so that a killed run loses nothing.

    What a full disk does not take is written with the next line.
    """

    def __init__(self, file: Path, resume_step: int):
        """Keeps the lines up to `resume_step`; later ones are computed again."""
        kept = [line for line in read_lines(file) if line["step"] <= resume_step]
        write_atomically(file, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = file.open("ab", buffering=0)
        self._unwritten = b""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line."""
        self._unwritten += json.dumps({"step": step, **values}).encode() + b"\n"
        try:
            while self._unwritten:  # a call may write a part
                self._unwritten = self._unwritten[self._file.write(self._unwritten) :]
        except OSError as error:
            lines = self._unwritten.count(b"\n")
            print(
                f"denoise-jax: {self._file.name} cannot be written: {error.strerror}; {lines} line(s) wait",
                file=sys.stderr,
            )

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class TensorBoardWriter:
    """TensorBoard event files, written with tensorboardX."""

    def __init__(self, folder: Path, resume_step: int):
        from tensorboardX import SummaryWriter

        purge_step = resume_step + 1 if resume_step else None
        # Without the suffix, two files of one second have the same name.
        self._writer = SummaryWriter(str(folder), purge_step=purge_step, filename_suffix=f".{resume_step}")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a scalar for each value."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes the event file."""
        self._writer.close()


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
    """Lines of a metrics.jsonl, without a last line that a kill cut short."""
    return parse_metrics(file.read_text()) if file.exists() else []


def _optional(name: str):
    check_writers([name])
    return importlib.import_module(name)
