"""Orbax checkpoints with everything needed to resume a run, verified when they are read.

A checkpoint folder has three items: `state` (parameters, optimizer state, step, random key), `files`
(positions of the data shards, resolved configuration, vocabulary) and `meta` (a fingerprint per leaf of the
state).
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy

from denoise_jax.config import Config, TrainingConfig
from denoise_jax.errors import CheckpointError
from denoise_jax.parallel.processes import is_first, together
from denoise_jax.parallel.sharding import leaf_name
from denoise_jax.paths import absolute, to_path
from denoise_jax.runs.run_folder import CONFIG, VOCABULARY, parse_stored_config

State = dict  # a train state, or the part of it that is restored: see training/state.py

_DATA_PREFIX = "data/"
_CHECKSUMS = "checksums-of-process-"


class FilesHandler(ocp.CheckpointHandler):
    """Orbax item of small named files; each process writes its own."""

    def save(self, directory: epath.Path, args: "FilesSave") -> None:
        """Writes `args.files` (name → content) to `directory`, with their checksums."""
        checksums = {name: hashlib.sha256(data).hexdigest() for name, data in args.files.items()}
        record = json.dumps(checksums, indent=2).encode()
        for name, data in {**args.files, f"{_CHECKSUMS}{jax.process_index()}.json": record}.items():
            file = directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)

    def restore(self, directory: epath.Path, args: "FilesRestore") -> dict[str, bytes]:
        """All files in `directory`, by relative path; ValueError if one has changed since it was saved."""
        del args
        entries = list(directory.iterdir())  # not recursive, for buckets: names have at most one slash
        entries += [file for entry in entries if entry.is_dir() for file in entry.iterdir()]
        files = [entry for entry in entries if not entry.is_dir()]
        found = {str(file.relative_to(directory)): file.read_bytes() for file in files}
        for record in [name for name in found if name.startswith(_CHECKSUMS)]:
            for name, checksum in json.loads(found.pop(record)).items():
                if name not in found or hashlib.sha256(found[name]).hexdigest() != checksum:
                    raise ValueError(f"{name} has changed since it was saved")
        return found

    def finalize(self, directory: epath.Path) -> None:
        """Does nothing: the files are complete when `save` returns."""

    def close(self) -> None:
        """Does nothing: no file is held open."""


@ocp.args.register_with_handler(FilesHandler, for_save=True)
@dataclasses.dataclass
class FilesSave(ocp.args.CheckpointArgs):
    """Files to write: name → content."""

    files: Mapping[str, bytes]


@ocp.args.register_with_handler(FilesHandler, for_restore=True)
@dataclasses.dataclass
class FilesRestore(ocp.args.CheckpointArgs):
    """Read all files of the item."""


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
        options = ocp.CheckpointManagerOptions(
            **_kept(training),
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            read_only=read_only,
        )
        handlers = {
            "state": ocp.PyTreeCheckpointHandler(),
            "files": FilesHandler(),
            "meta": ocp.JsonCheckpointHandler(),
        }
        self._manager = ocp.CheckpointManager(
            epath.Path(absolute(to_path(folder))), options=options, item_handlers=handlers
        )
        self.folder = to_path(folder)

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
        data: Mapping[str, bytes],
        metrics: Mapping[str, float] | None = None,
    ):
        """Starts saving `state` after `step` updates, with the matching data position.

        Args:
          metrics: of a validation at this step, by which the best checkpoints are kept.

        Raises:
          CheckpointError: the previous save failed.
        """
        self._wait()
        files = {_DATA_PREFIX + name: content for name, content in data.items()}
        if is_first():
            files[CONFIG] = (config.model_dump_json(indent=2) + "\n").encode()
            files |= {f"{VOCABULARY}/{name}": content for name, content in vocabulary.items()}
        items = ocp.args.Composite(
            state=ocp.args.PyTreeSave(state),
            files=FilesSave(files),
            meta=ocp.args.JsonSave({"step": step, "fingerprints": fingerprints(state)}),
        )
        with jax.transfer_guard_device_to_host("allow"):  # Orbax copies with np.asarray, an implicit transfer
            self._manager.save(step, args=items, metrics=metrics and dict(metrics))

    def contents(self, step: int) -> Contents:
        """Configuration, vocabulary and data positions of a checkpoint.

        Raises:
          CheckpointError: a file is missing or has changed, or an earlier version wrote the checkpoint.
        """
        try:
            files = FilesHandler().restore(epath.Path(self.folder / str(step) / "files"), FilesRestore())
            text = files[CONFIG]
        except (KeyError, ValueError, OSError) as error:
            raise CheckpointError(f"{self._path(step)} is not complete: {_first_line(error)}") from None
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
        wanted = ocp.args.PyTreeRestore(target, restore_args=restore_args, partial_restore=True)
        try:
            meta = ocp.JsonCheckpointHandler().restore(folder / "meta", args=ocp.args.JsonRestore())
            state = ocp.PyTreeCheckpointHandler().restore(folder / "state", args=wanted)
        except Exception as error:  # Orbax and TensorStore raise many kinds, even bare Exception
            raise CheckpointError(f"{self._path(step)} cannot be read: {_first_line(error)}") from error
        return state, meta["fingerprints"]

    def verify(self, step: int) -> State:
        """The state of `step`, on one device; CheckpointError if anything in it is damaged or incomplete."""
        self.contents(step)
        folder = epath.Path(absolute(self.folder / str(step))) / "state"
        try:
            tree = ocp.PyTreeCheckpointHandler().metadata(folder).tree
        except Exception as error:  # as in `_read`
            raise CheckpointError(f"{self._path(step)} cannot be read: {_first_line(error)}") from error
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        leaf = lambda found: jax.ShapeDtypeStruct(found.shape, found.dtype, sharding=device)  # noqa: E731
        return self.restore(step, jax.tree.map(leaf, tree))

    def set_aside(self, step: int) -> None:
        """Renames a damaged checkpoint to `damaged-<step>`, so that the step can be saved again."""
        damaged = self.folder / str(step)
        together(lambda: is_first() and damaged.rename(self.folder / f"damaged-{step}"))
        self._manager.reload()

    def close(self) -> None:
        """Waits until all saves are on disk."""
        self._wait()
        self._manager.close()

    def _wait(self) -> None:
        try:
            self._manager.wait_until_finished()
        except Exception as error:  # a full disk, for one, after hundreds of lines of traceback
            raise CheckpointError(
                f"a checkpoint in {self.folder} could not be written: {_first_line(error)}"
            ) from error

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


def _first_line(error: Exception) -> str:
    """The start of a message that may have hundreds of lines."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def fingerprints(state: State) -> dict[str, int]:
    """32 bits per leaf, the same under any sharding; a flipped bit or swapped rows change them."""
    leaves = jax.tree.leaves_with_path(state)
    values = _fingerprint_all([leaf for _, leaf in leaves])
    return {
        leaf_name(path): int(value) for (path, _), value in zip(leaves, jax.device_get(values), strict=True)
    }


@jax.jit
def _fingerprint_all(leaves):
    return [_fingerprint(leaf) for leaf in leaves]


def _fingerprint(leaf: jax.Array) -> jax.Array:
    """Sum of (bits of element i) * (2 i + 1) over the flattened leaf, modulo 2^32."""
    bits = jax.lax.bitcast_convert_type(leaf, jnp.uint32)
    position = jnp.zeros(bits.shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(bits.ndim)):
        position += jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= bits.shape[axis]
    return jnp.sum(bits * (2 * position + 1), dtype=jnp.uint32)
