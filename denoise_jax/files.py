"""Atomic writes: a file or folder appears completely or not at all; and copies between disk and bucket.

Paths are made by `paths.to_path`. In a bucket a file is written in one request, so that it is atomic by
itself; a folder is uploaded file by file, `LAST` at the end. On a disk, what is written has reached it when a
function returns: after a power cut, a file is not empty because only its name was written.
"""

import contextlib
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from denoise_jax.errors import ConfigError
from denoise_jax.paths import is_remote

LAST = "config.json"  # whatever reads one of our folders needs it, so without it the folder is not complete

_NO_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}  # file systems that cannot flush a folder


def write_flushed(file: Path, content: bytes) -> None:
    """Writes `content`, and waits until a disk has it, but not for the name of a new file in its folder.

    Its folder must exist, unless it is in a bucket.
    """
    if is_remote(file):
        file.write_bytes(content)
        return
    with open(file, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def flush(path: Path) -> None:
    """Waits until a disk has the content of a local file, or the entries of a local folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise
    finally:
        os.close(descriptor)


def flush_tree(folder: Path) -> None:
    """`flush` for everything below the local `folder`, and for the folder itself."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            flush(Path(parent, name))
        flush(Path(parent))


def write_atomically(file: Path, content: str | bytes) -> None:
    """Writes `content` (text as UTF-8); readers see either the old or the new content.

    Missing parent folders are created. On a disk, a temporary file next to `file` is renamed.
    """
    content = content.encode() if isinstance(content, str) else content
    if is_remote(file):
        file.write_bytes(content)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        write_flushed(temporary, content)
        temporary.replace(file)
        flush(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


class AppendedFile:
    """A local file to which records are appended at once, so that neither a kill nor a power cut loses any.

    What a full disk does not take is kept, and written before the next record.
    """

    def __init__(self, file: Path):
        self._file = file.open("ab", buffering=0)
        self._unwritten, self._failing = b"", False

    def append(self, record: bytes) -> None:
        """Writes `record`; the first one that has to wait is reported on stderr."""
        self._unwritten += record
        try:
            while self._unwritten:  # one call may write a part
                self._unwritten = self._unwritten[self._file.write(self._unwritten) :]
            os.fsync(self._file.fileno())
            self._failing = False
        except OSError as error:
            if not self._failing:
                reason = f"{self._file.name} cannot be written: {error.strerror}"
                print(f"denoise-jax: {reason}; trying again", file=sys.stderr, flush=True)
            self._failing = True

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def check_new_folder(folder: Path, argument: str) -> None:
    """ConfigError, naming the command-line `argument`, unless `folder` is missing or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{argument} {folder} exists and is not empty; choose another folder")


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yields a temporary local folder, which becomes `folder` if the block succeeds and is removed if not."""
    if is_remote(folder):
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
            upload(Path(temporary), folder)
        return
    folder = folder.absolute()
    created = [parent for parent in folder.parents if not parent.exists()]  # innermost first
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)  # mkdtemp and safetensors create files readable by their owner only
        for file in filter(Path.is_file, temporary.iterdir()):
            file.chmod(0o666 & ~mask)
        flush_tree(temporary)
        temporary.replace(folder)  # replaces an empty folder
        flush(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process may have written there
            for parent in created:
                parent.rmdir()
        raise


def upload(source: Path, target: Path) -> None:
    """Copies the files below the local folder `source` to the bucket folder `target`, `LAST` at the end."""
    files = [file for file in source.rglob("*") if file.is_file()]
    for file in sorted(files, key=lambda file: (file == source / LAST, file)):
        (target / file.relative_to(source).as_posix()).write_bytes(file.read_bytes())


@contextlib.contextmanager
def local_copy(folder: Path) -> Iterator[Path]:
    """Yields `folder` itself or, of one in a bucket, a temporary copy of its files, without sub-folders."""
    if not is_remote(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        for file in folder.iterdir():
            if not file.is_dir():
                (Path(temporary) / file.name).write_bytes(file.read_bytes())
        yield Path(temporary)
