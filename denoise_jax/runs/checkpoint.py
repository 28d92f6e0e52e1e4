"""Orbax checkpoints with everything needed to resume a run, verified when they are read.

A checkpoint folder has three items: `state` (parameters, optimizer state, step, random key), `files`
(positions of the data shards, resolved configuration, vocabulary) and `meta` (a fingerprint per leaf of the
state). Each tells its step: a checkpoint that was renamed, or put together from two, is damaged.
"""

import contextlib
import dataclasses
import itertools
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy
from pydantic import BaseModel, ConfigDict

from denoise_jax.config import Config, TrainingConfig
from denoise_jax.errors import CheckpointError, StorageError, reason_of
from denoise_jax.parallel.processes import is_first, together
from denoise_jax.parallel.sharding import leaf_name
from denoise_jax.paths import absolute, is_remote, to_path
from denoise_jax.runs.checkpoint_items import (
    Content,
    FilesHandler,
    FilesSave,
    FlushedTemporaryPath,
    StateHandler,
    StateRestore,
    StateSave,
)
from denoise_jax.runs.file_record import read_files
from denoise_jax.runs.fingerprints import fingerprints, start_fingerprints
from denoise_jax.runs.library_log import keep_library_log
from denoise_jax.runs.run_folder import (
    CONFIG,
    DAMAGED,
    VOCABULARY,
    check_usable_path,
    parse_stored_config,
)

State = dict  # a train state, or the part of it that is restored: see training/state.py

MAX_FAILED_SAVES = 3  # in a row, before the run ends

_DATA_PREFIX = "data/"
_STATE_RECORD = "metadata"
_READ_AT_ONCE = 2**28  # bytes of a state that are read back together


@dataclasses.dataclass(frozen=True)
class Contents:
    """The files of a checkpoint: with its state, enough to resume, evaluate or generate."""

    config: Config
    vocabulary: dict[str, bytes]
    data: dict[str, bytes]


class StateRecord(BaseModel):
    """The file `_STATE_RECORD` of `meta`."""

    model_config = ConfigDict(strict=True, frozen=True)

    step: int
    fingerprints: dict[str, int]  # leaf of the state → see fingerprints.py


class _Manager(ocp.CheckpointManager):
    """Orbax's manager, without polls of its own for a preemption.

    All processes stop at the same poll, which JAX finds by a number that ascends from poll to poll. The
    training loop polls more often than once a step. A poll with the number of a step, while a checkpoint is
    saved, would set the number back, and a preemption at that moment would never be reported.
    """

    def reached_preemption(self, step: int) -> bool:
        """False: the training loop asks."""
        return False


class Checkpointer:
    """Checkpoints of one run, in `folder`/<step>. Saving continues in the background.

    Only the first checkpoint of a run is waited for and read back: a run that nobody can read is not trained.

    Raises:
      ConfigError: no checkpoint can be kept below such a path (see `check_usable_path`).
    """

    def __init__(
        self, folder: str | Path, training: TrainingConfig | None = None, *, read_only: bool = False
    ):
        self.folder = to_path(folder)
        check_usable_path(self.folder)
        keep_library_log(None if read_only else self.folder.parent)
        self._options = ocp.CheckpointManagerOptions(
            **_kept(training),
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            read_only=read_only,
            temporary_path_class=None if is_remote(self.folder) else FlushedTemporaryPath,
        )
        self._manager = self._open()
        self._unproven = not self.steps()
        self._saving, self._failed_saves, self._given_up = False, 0, False

    def _open(self) -> ocp.CheckpointManager:
        self._items = {"state": StateHandler(), "files": FilesHandler(), "meta": FilesHandler()}
        folder = epath.Path(absolute(self.folder))
        return _Manager(folder, options=self._options, item_handlers=self._items)

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(
        self,
        step: int,
        state: State,
        *,
        config: Config,
        vocabulary: Mapping[str, bytes],
        data: Mapping[str, Content],
        metrics: Mapping[str, float] | None = None,
    ):
        """Starts saving `state` after `step` updates, with the matching data position, once the previous
        save has ended (see `wait`).

        Args:
          data: position in the data, file name → content.
          metrics: of a validation at this step, by which the best checkpoints are kept.

        Raises:
          StorageError: as in `wait`.
          CheckpointError: the first checkpoint cannot be read back, or there is a newer one.
        """
        self.wait()
        files: dict[str, Content] = {_DATA_PREFIX + name: content for name, content in data.items()}
        if is_first():
            files[CONFIG] = (config.model_dump_json(indent=2) + "\n").encode()
            files |= {f"{VOCABULARY}/{name}": content for name, content in vocabulary.items()}
        marks: Future[Callable[[], dict[str, int]]] = Future()

        def meta() -> bytes:
            return StateRecord(step=step, fingerprints=marks.result()()).model_dump_json().encode()

        items = ocp.args.Composite(
            state=StateSave(state),
            files=FilesSave(step, files),
            meta=FilesSave(step, {_STATE_RECORD: meta} if is_first() else {}),
        )
        try:
            # Orbax copies with np.asarray, an implicit transfer.
            with jax.transfer_guard_device_to_host("allow"):
                started = self._manager.save(step, args=items, metrics=metrics and dict(metrics))
            if not started:
                raise CheckpointError(
                    f"{self._path(step)} was not saved: {self.folder} has step {max(self.steps())}"
                )
            marks.set_result(start_fingerprints(state))  # last: on a CPU, the computation slows Orbax down
        except BaseException as error:
            marks.cancel()  # ends the thread that waits for them
            if not isinstance(error, OSError):
                raise
            self._after_failed_save(error)
        else:
            self._saving = True
            if self._unproven and self.wait():
                self._read_back(step, state)
                self._unproven = False

    def wait(self) -> bool:
        """Waits for the last save; False if it has failed, and may be tried again.

        What it has written is removed, and the reason printed. The other checkpoints are as they were.

        Raises:
          StorageError: `MAX_FAILED_SAVES` have failed, one after the other; or one, if there are several
            processes: the others may still be writing, and can only be started again.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:  # Orbax and TensorStore raise many kinds, even bare Exception
            self._after_failed_save(error)
            return False
        if self._saving:
            self._saving, self._failed_saves = False, 0
        return True

    def _after_failed_save(self, error: Exception) -> None:
        reason = f"a checkpoint in {self.folder} could not be written: {reason_of(error)}"
        self._saving, self._failed_saves = False, self._failed_saves + 1
        if self._failed_saves == MAX_FAILED_SAVES or jax.process_count() > 1:
            self._given_up = True
            raise StorageError(reason) from error
        print(f"denoise-jax: {reason}; trying again", file=sys.stderr, flush=True)
        for item in self._items.values():
            item.settle()
        _remove_unfinished(self.folder)
        try:
            self._manager = self._open()
        except Exception as again:  # the bucket is out of reach
            raise StorageError(reason) from again

    def contents(self, step: int) -> Contents:
        """Configuration, vocabulary and data positions of a checkpoint.

        Raises:
          CheckpointError: a file is missing or has changed, or an earlier version wrote the checkpoint.
        """
        item = self.folder / str(step) / "files"
        try:
            files = read_files(item, step)
            text = files[CONFIG]
        except (KeyError, ValueError, OSError) as error:
            with contextlib.suppress(OSError):  # version 0.1.0 wrote no record of the files
                parse_stored_config((item / CONFIG).read_bytes(), item / CONFIG)
            raise CheckpointError(f"{self._path(step)} is not complete: {reason_of(error)}") from None
        config = parse_stored_config(text, item / CONFIG)

        def under(prefix: str) -> dict[str, bytes]:
            return {
                name.removeprefix(prefix): data for name, data in files.items() if name.startswith(prefix)
            }

        return Contents(config, under(f"{VOCABULARY}/"), under(_DATA_PREFIX))

    def restore(self, step: int, target: State) -> State:
        """Restores the state of `step`, or only the part of it in `target` (`params`, say).

        Args:
          target: tree of ShapeDtypeStructs with the shardings to restore to.

        Raises:
          CheckpointError: it cannot be read, or a leaf has changed since it was saved. Orbax does not notice
            changed bytes, so the fingerprint of every leaf is compared.
        """
        state, expected = together(lambda: self._read(step, target))
        changed = [name for name, value in fingerprints(_leaves(state)).items() if value != expected[name]]
        if changed:
            raise CheckpointError(
                f"{self._path(step)} is damaged: {changed[0]} has changed since it was saved "
                f"({len(changed)} of {len(expected)} arrays have)"
            )
        return state

    def _read(self, step: int, target: State) -> tuple[State, dict[str, int]]:
        """The state as stored, and the fingerprints of its leaves.

        The handlers are called directly: the manager's barriers would leave the other processes waiting if
        only this one cannot read its part.
        """
        expected = self._state_record(step).fingerprints
        restore_args = ocp.checkpoint_utils.construct_restore_args(target)
        wanted = StateRestore(target, restore_args=restore_args, partial_restore=True)
        try:
            state = StateHandler().restore(
                epath.Path(absolute(self.folder / str(step))) / "state", args=wanted
            )
        except Exception as error:  # Orbax and TensorStore raise many kinds, even bare Exception
            raise CheckpointError(f"{self._path(step)} cannot be read: {reason_of(error)}") from error
        # Orbax leaves the target's description of an array in the place of one that is not stored.
        missing = [
            name
            for name, leaf in _leaves(state).items()
            if isinstance(leaf, jax.ShapeDtypeStruct) or name not in expected
        ]
        if missing:
            raise CheckpointError(f"{self._path(step)} is damaged: it has no {missing[0]}")
        return state, expected

    def _state_record(self, step: int) -> StateRecord:
        try:
            files = read_files(self.folder / str(step) / "meta", step)
            record = StateRecord.model_validate_json(files[_STATE_RECORD])
        except (KeyError, ValueError, OSError) as error:
            raise CheckpointError(f"{self._path(step)} is not complete: {reason_of(error)}") from None
        if record.step != step:
            raise CheckpointError(f"{self._path(step)} is damaged: its state is of step {record.step}")
        return record

    def _read_back(self, step: int, state: State) -> None:
        """Reads what has been saved, a part at a time: there is no memory for a second state."""
        leaves, structure = jax.tree.flatten(state)
        own = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])  # for arrays of NumPy
        abstract = [
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", own))
            for leaf in leaves
        ]
        with jax.transfer_guard("allow"):
            for part in _parts(abstract):
                chosen = [leaf if index in part else ocp.PLACEHOLDER for index, leaf in enumerate(abstract)]
                try:
                    self.restore(step, structure.unflatten(chosen))
                except CheckpointError as error:
                    self.set_aside(step)
                    raise CheckpointError(
                        f"the first checkpoint was written and cannot be read back: {error}; "
                        "use another folder"
                    ) from error

    def verify(self, step: int) -> State:
        """The state of `step`, on one device; CheckpointError if anything in it is damaged or incomplete."""
        self.contents(step)
        folder = epath.Path(absolute(self.folder / str(step))) / "state"
        try:
            tree = ocp.PyTreeCheckpointHandler().metadata(folder).tree
        except Exception as error:  # as in `_read`
            raise CheckpointError(f"{self._path(step)} cannot be read: {reason_of(error)}") from error
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        leaf = lambda found: jax.ShapeDtypeStruct(found.shape, found.dtype, sharding=device)  # noqa: E731
        return self.restore(step, jax.tree.map(leaf, tree))

    def set_aside(self, step: int) -> None:
        """Renames a damaged checkpoint to `damaged-<step>`, or `damaged-<step>-2` if that is there."""
        together(lambda: is_first() and self._rename_damaged(step))
        self._manager.reload()

    def _rename_damaged(self, step: int) -> None:
        damaged = self.folder / f"{DAMAGED}{step}"
        others = (self.folder / f"{DAMAGED}{step}-{number}" for number in itertools.count(2))
        free = next(path for path in itertools.chain([damaged], others) if not path.exists())
        (self.folder / str(step)).rename(free)

    def close(self) -> None:
        """Waits until all saves have ended, unless `StorageError` has been raised for one."""
        if not self._given_up and self.wait():
            self._manager.close()

    def _path(self, step: int) -> str:
        return f"checkpoint {self.folder / str(step)}"


def _leaves(state: State) -> dict[str, object]:
    """The leaves of a state by name, without those that are not to be read."""
    leaves = jax.tree.leaves_with_path(state)
    return {leaf_name(path): leaf for path, leaf in leaves if leaf is not ocp.PLACEHOLDER}


def _parts(leaves: Sequence[jax.ShapeDtypeStruct]) -> list[set[int]]:
    """The indices of the leaves, in sets of at most `_READ_AT_ONCE` bytes or one leaf."""
    parts, size = [set()], 0
    for index, leaf in enumerate(leaves):
        nbytes = leaf.size * leaf.dtype.itemsize
        if parts[-1] and size + nbytes > _READ_AT_ONCE:
            parts.append(set())
            size = 0
        parts[-1].add(index)
        size += nbytes
    return parts


def _kept(training: TrainingConfig | None) -> dict:
    """The options of Orbax by which old checkpoints are deleted."""
    if training is None:
        return {}
    policies = [preservation_policy.LatestN(training.keep_checkpoints)]
    if training.keep_every:
        policies.append(preservation_policy.EveryNSteps(training.keep_every))
    if not training.keep_best:
        return {"preservation_policy": preservation_policy.AnyPreservationPolicy(policies)}
    name, lower = training.best_metric, training.best_metric == "loss"

    def metric(metrics: Mapping[str, float]) -> float:
        return metrics[name]

    best = preservation_policy.BestN(
        get_metric_fn=metric, reverse=lower, n=training.keep_best, keep_checkpoints_without_metrics=False
    )
    return {
        "preservation_policy": preservation_policy.AnyPreservationPolicy([*policies, best]),
        "best_fn": metric,
        "best_mode": "min" if lower else "max",
    }


def _remove_unfinished(folder: Path, patience: float = 10.0) -> None:
    """Removes what a failed save has written, while TensorStore may still be writing some of it.

    In a bucket, Orbax does so when a manager is opened.
    """
    deadline = time.monotonic() + patience
    while not is_remote(folder) and time.monotonic() < deadline:
        unfinished = list(folder.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"))
        if not unfinished:
            return
        for path in unfinished:
            shutil.rmtree(path, ignore_errors=True)
        time.sleep(0.2)
