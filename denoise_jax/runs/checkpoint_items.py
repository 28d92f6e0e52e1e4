"""The items of a checkpoint: the arrays of a state, and small files, with a record of their checksums."""

import concurrent.futures
import contextlib
import dataclasses
import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import orbax.checkpoint as ocp
from etils import epath

from denoise_jax.files import flush, flush_tree, write_flushed
from denoise_jax.paths import to_path
from denoise_jax.runs.file_record import FileRecord, read_files, record_name

Content = bytes | Callable[[], bytes]  # or made while training goes on

_THREADS = 16  # objects of a bucket written at once


class StateHandler(ocp.PyTreeCheckpointHandler):
    """Orbax's item of arrays. The writes of the last save can be waited for if another item has failed."""

    _writes: Sequence[ocp.future.Future] = ()

    async def async_save(self, *args, **kwargs) -> list[ocp.future.Future]:
        """Starts the writes."""
        self._writes = list(await super().async_save(*args, **kwargs) or [])
        return self._writes

    def finalize(self, directory: epath.Path) -> None:
        """Makes one store of what all processes have written."""
        super().finalize(_LiteralPath(directory))

    def settle(self) -> None:
        """Waits until no write is going on."""
        for write in self._writes:
            with contextlib.suppress(Exception):  # reported by Orbax
                write.result()


class _LiteralPath(type(epath.Path("/"))):
    """A path whose own name is no pattern: Orbax searches `seed[1]` for files with the whole path."""

    def glob(self, pattern: str) -> Iterator[epath.Path]:
        """The paths below that match `pattern`."""
        return epath.Path(glob.escape(os.fspath(self))).glob(pattern)


class FlushedTemporaryPath(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """A local checkpoint that reaches the disk before it gets its name: TensorStore flushes its own."""

    async def finalize(self) -> None:
        """Flushes and renames the temporary folder; then flushes what Orbax writes before the renaming."""
        flush_tree(to_path(self.get()))
        await super().finalize()
        flush_tree(to_path(self.get_final()))
        flush(to_path(self.get_final().parent))


class FilesHandler(ocp.AsyncCheckpointHandler):
    """Orbax item of small named files, written in the background; each process writes its own."""

    _write: ocp.future.Future | None = None

    def save(self, directory: epath.Path, args: "FilesSave") -> None:
        """Writes `args.files` to `directory`, and the record of this process."""
        folder = to_path(directory)
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:

            def write(name: str, content: Content) -> bytes:
                data = content if isinstance(content, bytes) else content()
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                write_flushed(folder / name, data)
                return data

            names = list(args.files)
            written = dict(zip(names, threads.map(write, names, args.files.values()), strict=True))
            record = FileRecord.of(args.step, jax.process_count(), written)
            write(record_name(jax.process_index()), record.to_json())

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
        """All files of the item, by relative path; errors as in `read_files`."""
        return read_files(to_path(directory), args.step)

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
    """Files to write, name → content, of the checkpoint of `step`. A name has at most one slash."""

    step: int
    files: Mapping[str, Content]


@ocp.args.register_with_handler(FilesHandler, for_restore=True)
@dataclasses.dataclass
class FilesRestore(ocp.args.CheckpointArgs):
    """Read all files of the item, which must be those of `step`."""

    step: int
