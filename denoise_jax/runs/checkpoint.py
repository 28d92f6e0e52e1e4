"""Orbax checkpoints with everything needed to resume a run, verified when they are read.

A checkpoint folder has three items: `state` (parameters, optimizer state, step, random key), `files`
(positions of the data shards, resolved configuration, vocabulary) and `meta` (a fingerprint per leaf of the
state).
"""

import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy

from denoise_jax.config import Config, TrainingConfig
from denoise_jax.errors import CheckpointError, StorageError, reason_of
from denoise_jax.parallel.processes import is_first, together
from denoise_jax.paths import absolute, is_remote, to_path
from denoise_jax.runs.checkpoint_items import (
    Content,
    FilesHandler,
    FilesRestore,
    FilesSave,
    StateHandler,
    StateRestore,
    StateSave,
)
from denoise_jax.runs.fingerprints import fingerprints, start_fingerprints
from denoise_jax.runs.run_folder import CONFIG, VOCABULARY, parse_stored_config

State = dict  # a train state, or the part of it that is restored: see training/state.py

MAX_FAILED_SAVES = 3  # in a row, before the run ends

_DATA_PREFIX = "data/"
_FINGERPRINTS = "metadata"  # the name that Orbax gives to a JSON item


@dataclasses.dataclass(frozen=True)
class Contents:
    """The files of a checkpoint: with its state, enough to resume, evaluate or generate."""

    config: Config
    vocabulary: dict[str, bytes]
    data: dict[str, bytes]


class Checkpointer:
    """Checkpoints of one run, in `folder`/<step>. Saving continues in the background."""

    def __init__(
        self, folder: str | Path, training: TrainingConfig | None = None, *, read_only: bool = False
    ):
        self.folder = to_path(folder)
        self._options = ocp.CheckpointManagerOptions(
            **_kept(training),
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            read_only=read_only,
        )
        self._manager = self._open()
        self._saving, self._failed_saves, self._given_up = False, 0, False

    def _open(self) -> ocp.CheckpointManager:
        self._items = {"state": StateHandler(), "files": FilesHandler(), "meta": FilesHandler()}
        folder = epath.Path(absolute(self.folder))
        return ocp.CheckpointManager(folder, options=self._options, item_handlers=self._items)

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
        """
        self.wait()
        files: dict[str, Content] = {_DATA_PREFIX + name: content for name, content in data.items()}
        if is_first():
            files[CONFIG] = (config.model_dump_json(indent=2) + "\n").encode()
            files |= {f"{VOCABULARY}/{name}": content for name, content in vocabulary.items()}
        marks: Future[Callable[[], dict[str, int]]] = Future()

        def meta() -> bytes:
            return json.dumps({"step": step, "fingerprints": marks.result()()}).encode()

        items = ocp.args.Composite(
            state=StateSave(state),
            files=FilesSave(files),
            meta=FilesSave({_FINGERPRINTS: meta} if is_first() else {}),
        )
        try:
            # Orbax copies with np.asarray, an implicit transfer.
            with jax.transfer_guard_device_to_host("allow"):
                self._manager.save(step, args=items, metrics=metrics and dict(metrics))
            marks.set_result(start_fingerprints(state))  # last: on a CPU, the computation slows Orbax down
        except BaseException as error:
            marks.cancel()  # ends the thread that waits for them
            if not isinstance(error, OSError):
                raise
            self._after_failed_save(error)
        else:
            self._saving = True

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
        try:
            files = FilesHandler().restore(epath.Path(self.folder / str(step) / "files"), FilesRestore())
            text = files[CONFIG]
        except (KeyError, ValueError, OSError) as error:
            raise CheckpointError(f"{self._path(step)} is not complete: {reason_of(error)}") from None
        config = parse_stored_config(text, self.folder / str(step) / "files" / CONFIG)

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
        changed = [name for name, value in fingerprints(state).items() if value != expected.get(name)]
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
        folder = epath.Path(absolute(self.folder / str(step)))
        restore_args = ocp.checkpoint_utils.construct_restore_args(target)
        wanted = StateRestore(target, restore_args=restore_args, partial_restore=True)
        try:
            meta = json.loads(FilesHandler().restore(folder / "meta", FilesRestore())[_FINGERPRINTS])
            state = StateHandler().restore(folder / "state", args=wanted)
        except Exception as error:  # Orbax and TensorStore raise many kinds, even bare Exception
            raise CheckpointError(f"{self._path(step)} cannot be read: {reason_of(error)}") from error
        return state, meta["fingerprints"]

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
        """Renames a damaged checkpoint to `damaged-<step>`, so that the step can be saved again."""
        damaged = self.folder / str(step)
        together(lambda: is_first() and damaged.rename(self.folder / f"damaged-{step}"))
        self._manager.reload()

    def close(self) -> None:
        """Waits until all saves have ended, unless `StorageError` has been raised for one."""
        if not self._given_up and self.wait():
            self._manager.close()

    def _path(self, step: int) -> str:
        return f"checkpoint {self.folder / str(step)}"


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
