"""A run folder: its configuration and vocabulary, and which configurations may resume it."""

import fcntl
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from denoise_jax.config import Config
from denoise_jax.errors import CheckpointError, ConfigError
from denoise_jax.files import write_atomically
from denoise_jax.parallel.processes import is_first, together
from denoise_jax.paths import absolute, is_remote, to_path
from denoise_jax.runs.config_differences import differences
from denoise_jax.runs.file_record import read_record
from denoise_jax.runs.lease import Lease
from denoise_jax.vocabulary.load import load_vocabulary

LOCK, FINGERPRINT = ".lock", "fingerprint"
CONFIG, VOCABULARY, CHECKPOINTS, PLOTS, EVAL = "config.json", "vocabulary", "checkpoints", "plots", "eval"
PROFILE = "profile"  # traces of --profile
DAMAGED = "damaged-"  # before the step, in the name of a checkpoint that was set aside

# A run is resumed with these unchanged.
_FIXED_SECTIONS = ("name", "model", "data", "optimizer", "loss")
_FIXED_FIELDS = ("training.seed", "training.init_from")
_FREE_FIELDS = ("data.vocabulary",)  # a path; the vocabulary itself is compared by content

_COMMITTED = "commit_success.txt"  # in a bucket, Orbax writes it when a checkpoint is complete

# Fields that every configuration stored by version 0.1.0 has, and that no longer exist.
_FIELDS_OF_0_1_0 = {("data", "document_length"), ("optimizer", "label_smoothing"), ("optimizer", "z_loss")}


def read_config(folder: str | Path) -> Config:
    """The configuration of the run in `folder`, from its newest checkpoint if config.json is lost or damaged.

    Raises:
      CheckpointError: not a run, or one written by an earlier version.
    """
    file = stored_config_file(to_path(folder))
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} is not a run: it has no {CONFIG}; `denoise-jax train` starts one"
        ) from None
    return parse_stored_config(text, file)


def stored_config_file(folder: Path) -> Path:
    """The config.json of the run in `folder`, or of its newest checkpoint if that is lost or damaged."""
    file = folder / CONFIG
    if file.exists():
        try:
            parse_stored_config(file.read_bytes(), file)
            return file
        except CheckpointError:
            pass
    return (newest_files(folder) or folder) / CONFIG


def check_usable_path(folder: Path) -> None:
    """ConfigError if no checkpoint can be kept below `folder`, as the libraries read its name as another."""
    path = os.fspath(absolute(folder))
    if is_remote(folder) and set("*?[") & set(path):
        raise ConfigError(f"{path} has one of * ? [, which name several objects in a bucket; rename it")
    if "\\" in path:
        raise ConfigError(
            f"{path} has a backslash, which the checkpoint library takes for a slash; rename it"
        )
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{path!r} is no text in UTF-8, as the checkpoint library needs it; rename it"
        ) from None


def is_run(folder: Path) -> bool:
    """Whether `folder` holds a run, even if it has no checkpoint yet or has lost its config.json."""
    return (folder / CONFIG).exists() or newest_files(folder) is not None


def parse_stored_config(text: bytes, file: Path) -> Config:
    """The configuration in `text`, read from `file` of a run or checkpoint; CheckpointError if invalid."""
    try:
        return Config.model_validate_json(text)
    except ValidationError as error:
        found = error.errors()
        if _FIELDS_OF_0_1_0 & {tuple(finding["loc"]) for finding in found}:
            raise CheckpointError(
                f"{file} was written by denoise_jax 0.1.0, an earlier version whose runs this one cannot "
                "read: use 0.1.0 for this run, or start a new run in another folder"
            ) from None
        field = ".".join(map(str, found[0]["loc"])) or "its text"
        raise CheckpointError(
            f"{file} is not a configuration of this version: {field}: {found[0]['msg']}"
        ) from None


def existing_config(folder: Path) -> Config | None:
    """The configuration of the run in `folder`, even if it has no checkpoint yet; None if there is no run.

    Raises:
      ConfigError: the folder holds imported weights, which have no optimizer state to resume from.
      CheckpointError: as for `read_config`.
    """
    if not is_run(folder):
        return None
    config = read_config(folder)
    if config.data.task is None:
        raise ConfigError(
            f"workdir {folder} holds imported weights, which cannot be resumed: train in another folder, "
            f"with --training.init-from {folder}"
        )
    return config


def prepare(
    folder: Path, config: Config, vocabulary: Mapping[str, bytes], fingerprint: str
) -> tuple[list[str], IO | Lease | None]:
    """Creates a run folder, or checks that `config` may resume the run in it and records `config` there.

    Args:
      vocabulary: the vocabulary's files, name → content.
      fingerprint: the vocabulary's; part of the run's identity.

    Returns:
      One line for each changed field that was accepted; and a lock that keeps other processes out of the
      run until it is closed (None on all but the first process).

    Raises:
      ConfigError: the folder holds something else, a field differs that must not, the run is already past
        `training.num_steps`, or another process is training in it: nothing is written in these cases. Or the
        hosts do not share the folder.
    """
    together(lambda: check(folder, config, fingerprint))
    lock = together(lambda: _lock(folder))
    # Again: another run may have had the lock until now.
    changes = together(lambda: check(folder, config, fingerprint))
    together(lambda: is_first() and record(folder, config, vocabulary, fingerprint))
    together(lambda: _check_shared(folder))
    return changes, lock


def record(folder: Path, config: Config, vocabulary: Mapping[str, bytes], fingerprint: str) -> None:
    """Writes the configuration and vocabulary of a run to its folder; arguments as in `prepare`."""
    write_atomically(folder / CONFIG, config.model_dump_json(indent=2) + "\n")
    write_atomically(folder / VOCABULARY / FINGERPRINT, fingerprint)
    for name, content in vocabulary.items():
        write_atomically(folder / VOCABULARY / name, content)


def newest_step(folder: Path) -> int | None:
    """The step of the newest checkpoint of the run in `folder` that is complete; None if there is none.

    Only the record of its files is read: it tells whether it was renamed, not whether arrays are damaged.
    """
    checkpoints = folder / CHECKPOINTS
    names = [entry.name for entry in checkpoints.iterdir()] if checkpoints.is_dir() else []
    steps = sorted((int(name) for name in names if name.isdecimal()), reverse=True)
    return next((step for step in steps if _is_complete(checkpoints / str(step), step)), None)


def _is_complete(checkpoint: Path, step: int) -> bool:
    if is_remote(checkpoint) and not (checkpoint / _COMMITTED).exists():
        return False
    try:
        return read_record(checkpoint / "files").step == step
    except (OSError, ValueError):
        return False


def newest_files(folder: Path) -> Path | None:
    """The `files` item of the newest checkpoint, which can restore a lost config.json; None if absent."""
    files = folder / CHECKPOINTS / str(newest_step(folder)) / "files"
    return files if (files / CONFIG).exists() else None


def vocabulary_folder(folder: Path) -> Path | None:
    """The vocabulary that the run in `folder`, or its newest checkpoint, holds; None if neither does."""
    candidates = (folder / VOCABULARY, (newest_files(folder) or folder) / VOCABULARY)
    return next((candidate for candidate in candidates if candidate.is_dir()), None)


def _check_shared(folder: Path) -> None:
    if not (folder / CONFIG).exists():
        raise ConfigError(
            f"workdir {folder} is not shared: this host does not see what the first one has written; use a "
            "bucket (gs://...) or a file system that all hosts mount"
        )


def check(folder: Path, config: Config, fingerprint: str) -> list[str]:
    """One line for each changed field that is accepted; raises as `prepare` does, and writes nothing."""
    check_usable_path(folder)
    old = existing_config(folder)
    return _check_same_run(folder, old, config, fingerprint) if old else _check_empty(folder)


def _lock(folder: Path) -> IO | Lease | None:
    """Locks the run for this process, until the lock is closed or the process ends in any way."""
    if not is_first():
        return None
    if is_remote(folder):
        # Without conditional writes, as in s3://, there is no lock.
        return Lease(folder / LOCK) if os.fspath(folder).startswith("gs://") else None
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / LOCK).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ConfigError(
            f"another process is training in workdir {folder}; wait for it or stop it"
        ) from None
    return file


def _check_empty(folder: Path) -> list[str]:
    if folder.exists() and (not folder.is_dir() or {entry.name for entry in folder.iterdir()} - {LOCK}):
        raise ConfigError(
            f"workdir {folder} exists and is not a run (it has no {CONFIG}); choose another folder"
        )
    return []


def _check_same_run(folder: Path, old: Config, config: Config, fingerprint: str) -> list[str]:
    changed = differences(old, config)
    if "name" in changed:
        raise ConfigError(
            f"workdir {folder} holds a run of {old.name!r}, not of {config.name!r}; choose another folder"
        )
    refused = [
        f"{field} was {before!r}, now {after!r}"
        for field, (before, after) in changed.items()
        if field not in _FREE_FIELDS and (field.split(".")[0] in _FIXED_SECTIONS or field in _FIXED_FIELDS)
    ]
    if refused:
        raise ConfigError(
            f"the run in workdir {folder} cannot be resumed with another configuration: {'; '.join(refused)}"
        )
    if _stored_fingerprint(folder) not in (None, fingerprint):
        raise ConfigError(
            f"data.vocabulary={config.data.vocabulary} is not the vocabulary of the run in workdir {folder}"
        )
    step = newest_step(folder)
    if step is not None and step > config.training.num_steps:
        raise ConfigError(
            f"training.num_steps={config.training.num_steps} is below the {step} steps that the run in "
            f"workdir {folder} has done"
        )
    stored = stored_config_file(folder)
    lost = stored != folder / CONFIG and (folder / CONFIG).exists()
    changes = [f"{CONFIG}: damaged → that of checkpoint {stored.parents[1].name}"] if lost else []
    return changes + [f"{field}: {before!r} → {after!r}" for field, (before, after) in changed.items()]


def _stored_fingerprint(folder: Path) -> str | None:
    """The fingerprint of the run's vocabulary, from its newest checkpoint if that file is lost or damaged."""
    file, stored = folder / VOCABULARY / FINGERPRINT, newest_files(folder)
    text = file.read_bytes() if file.exists() else b""
    if re.fullmatch(rb"[0-9a-f]{16}", text):
        return text.decode()
    return load_vocabulary(stored / VOCABULARY).fingerprint() if stored else None
