"""The items of a checkpoint: the arrays of a state, and small files, each with its checksum."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence

import jax
import orbax.checkpoint as ocp
from etils import epath

Content = bytes | Callable[[], bytes]  # or made while training goes on

_CHECKSUMS = "checksums-of-process-"
_THREADS = 16  # objects of a bucket written at once


class StateHandler(ocp.PyTreeCheckpointHandler):
    """Orbax's item of arrays. The writes of the last save can be waited for if another item has failed."""

    _writes: Sequence[ocp.future.Future] = ()

    async def async_save(self, *args, **kwargs) -> list[ocp.future.Future]:
        """Starts the writes."""
        self._writes = list(await super().async_save(*args, **kwargs) or [])
        return self._writes

    def settle(self) -> None:
        """Waits until no write is going on."""
        for write in self._writes:
            with contextlib.suppress(Exception):  # reported by Orbax
                write.result()


class FilesHandler(ocp.AsyncCheckpointHandler):
    """Orbax item of small named files, written in the background; each process writes its own."""

    _write: ocp.future.Future | None = None

    def save(self, directory: epath.Path, args: "FilesSave") -> None:
        """Writes `args.files` to `directory`, with their checksums."""
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:

            def write(name: str, content: Content) -> str:
                data = content if isinstance(content, bytes) else content()
                file = directory / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
                return hashlib.sha256(data).hexdigest()

            names = list(args.files)
            checksums = dict(zip(names, threads.map(write, names, args.files.values()), strict=True))
            write(f"{_CHECKSUMS}{jax.process_index()}.json", json.dumps(checksums, indent=2).encode())

    async def async_save(self, directory: epath.Path, args: "FilesSave") -> list[ocp.future.Future]:
        """Starts `save`, once Orbax has made the folder."""

        async def save() -> None:
            self.save(directory, args)

        self._write = ocp.future.CommitFutureAwaitingContractedSignals(save(), name="files")
        return [self._write]

    def settle(self) -> None:
        """Waits until no write is going on."""
        if self._write is not None:
            with contextlib.suppress(Exception):  # reported by Orbax
                self._write.result()

    def restore(self, directory: epath.Path, args: "FilesRestore") -> dict[str, bytes]:
        """All files in `directory`, by relative path; ValueError if one has changed since it was saved."""
        del args
        entries = list(directory.iterdir())  # not recursive, for buckets
        entries += [file for entry in entries if entry.is_dir() for file in entry.iterdir()]
        files = [entry for entry in entries if not entry.is_dir()]
        found = {str(file.relative_to(directory)): file.read_bytes() for file in files}
        for record in [name for name in found if name.startswith(_CHECKSUMS)]:
            for name, checksum in json.loads(found.pop(record)).items():
                if name not in found or hashlib.sha256(found[name]).hexdigest() != checksum:
                    raise ValueError(f"{name} has changed since it was saved")
        return found

    def finalize(self, directory: epath.Path) -> None:
        """Does nothing: the files are complete once `save` returns."""

    def close(self) -> None:
        """Does nothing: no file is held open."""


@ocp.args.register_with_handler(StateHandler, for_save=True)
class StateSave(ocp.args.PyTreeSave):
    """A tree of arrays to write."""


@ocp.args.register_with_handler(StateHandler, for_restore=True)
class StateRestore(ocp.args.PyTreeRestore):
    """A tree of arrays to read."""


@ocp.args.register_with_handler(FilesHandler, for_save=True)
@dataclasses.dataclass
class FilesSave(ocp.args.CheckpointArgs):
    """Files to write, name → content. A name has at most one slash."""

    files: Mapping[str, Content]


@ocp.args.register_with_handler(FilesHandler, for_restore=True)
@dataclasses.dataclass
class FilesRestore(ocp.args.CheckpointArgs):
    """Read all files of the item."""
