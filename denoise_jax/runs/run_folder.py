"""The folder of a run: its configuration and vocabulary, and whether a configuration may go on with it."""

import fcntl
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import jax
from pydantic import ValidationError

from denoise_jax.config import Config, differences
from denoise_jax.errors import CheckpointError, ConfigError
from denoise_jax.files import write_atomically

LOCK, FINGERPRINT = ".lock", "fingerprint"
CONFIG, VOCABULARY, CHECKPOINTS, PLOTS, EVAL = "config.json", "vocabulary", "checkpoints", "plots", "eval"

# Changing one of these on a run in progress would make it another run.
_FIXED_SECTIONS = ("name", "model", "data", "optimizer")
_FIXED_FIELDS = ("training.seed", "training.init_from")
_FREE_FIELDS = ("data.vocabulary",)  # a path; the vocabulary itself is compared by content


def read_config(folder: str | Path) -> Config:
    """The configuration of the run in `folder`; CheckpointError if there is none."""
    file = Path(folder) / CONFIG
    if not file.exists():
        file = (newest_files(Path(folder)) or Path(folder)) / CONFIG
    try:
        return Config.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} is not a run: it has no {CONFIG}; `denoise-jax train` makes one"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its text"
        raise CheckpointError(
            f"{file} is not a configuration of this version: {where}: {first['msg']}"
        ) from None


def begun(folder: Path) -> Config | None:
    """The configuration of the run that `folder` holds, also one with no checkpoint yet; None if it is new.

    Raises:
      ConfigError: the folder holds imported weights, which have no optimizer to go on with.
    """
    if not ((folder / CONFIG).exists() or newest_files(folder)):
        return None
    config = read_config(folder)
    if config.data.task is None:
        raise ConfigError(
            f"--workdir {folder} holds imported weights, which no run can go on with: train in another "
            f"folder, with --training.init-from {folder}"
        )
    return config


def prepare(
    folder: Path, config: Config, vocabulary: Mapping[str, bytes], fingerprint: str
) -> tuple[list[str], IO | None]:
    """Makes a new run folder, or checks that `config` may go on with the run that is there.

    Args:
      vocabulary: the vocabulary's files, name → content.
      fingerprint: of the vocabulary; part of the run's identity.

    Returns:
      Lines to tell the user, on fields that changed and were accepted; and the lock that holds the run for
      this process until it is closed (None on all but the first process).

    Raises:
      ConfigError: the folder holds something else, a field differs that must not, or another process trains
        in it.
    """
    _check(folder, config, fingerprint)
    held = _lock(folder)
    notes = _check(folder, config, fingerprint)  # again: another process may have been here before the lock
    if jax.process_index() == 0:
        record(folder, config, vocabulary, fingerprint)
    return notes, held


def record(folder: Path, config: Config, vocabulary: Mapping[str, bytes], fingerprint: str) -> None:
    """Writes what a run folder says of the run: its configuration and its vocabulary, as in `prepare`."""
    write_atomically(folder / CONFIG, config.model_dump_json(indent=2) + "\n")
    write_atomically(folder / VOCABULARY / FINGERPRINT, fingerprint)
    for name, content in vocabulary.items():
        write_atomically(folder / VOCABULARY / name, content)


def _check(folder: Path, config: Config, fingerprint: str) -> list[str]:
    old = begun(folder)
    return _check_same_run(folder, old, config, fingerprint) if old else _check_empty(folder)


def newest_files(folder: Path) -> Path | None:
    """Files of the newest checkpoint, from which a run that lost all else goes on; None if there is none."""
    checkpoints = folder / CHECKPOINTS
    steps = [entry for entry in checkpoints.iterdir() if entry.name.isdigit()] if checkpoints.is_dir() else []
    newest = max(steps, key=lambda entry: int(entry.name), default=None)
    return newest / "files" if newest and (newest / "files" / CONFIG).exists() else None


def vocabulary_folder(folder: Path) -> Path | None:
    """Where the run in `folder` keeps its vocabulary, or its newest checkpoint; None if neither does."""
    kept = (folder / VOCABULARY, (newest_files(folder) or folder) / VOCABULARY)
    return next((own for own in kept if own.is_dir()), None)


def _lock(folder: Path) -> IO | None:
    """Holds the run for this process until the file is closed or the process ends, however it ends."""
    if jax.process_index() != 0:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / LOCK).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ConfigError(
            f"another process is training in --workdir {folder}; wait for it or end it"
        ) from None
    return file


def _check_empty(folder: Path) -> list[str]:
    if folder.exists() and (not folder.is_dir() or {entry.name for entry in folder.iterdir()} - {LOCK}):
        raise ConfigError(
            f"--workdir {folder} exists and is not a run (no {CONFIG} in it); choose another folder"
        )
    return []


def _check_same_run(folder: Path, old: Config, config: Config, fingerprint: str) -> list[str]:
    changed = differences(old, config)
    if "name" in changed:
        raise ConfigError(
            f"--workdir {folder} holds a run of {old.name!r}, not of {config.name!r}; choose another folder"
        )
    refused = [
        field
        for field in changed
        if field not in _FREE_FIELDS and (field.split(".")[0] in _FIXED_SECTIONS or field in _FIXED_FIELDS)
    ]
    if refused:
        told = "; ".join(f"{field} was {changed[field][0]!r}, now {changed[field][1]!r}" for field in refused)
        raise ConfigError(f"--workdir {folder} cannot go on with another configuration: {told}")
    stored = folder / VOCABULARY / FINGERPRINT
    if stored.exists() and stored.read_text() != fingerprint:
        raise ConfigError(
            f"data.vocabulary={config.data.vocabulary} is not the vocabulary of the run in {folder}"
        )
    return [f"{field}: {before!r} → {after!r}" for field, (before, after) in changed.items()]
