"""Atomic writes: a file or folder appears completely or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from denoise_jax.errors import ConfigError


def write_atomically(file: Path, content: str | bytes) -> None:
    """Writes `content` (text as UTF-8) to a temporary file next to `file`, then renames it.

    Missing parent folders are created. Readers see either the old or the new content.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def check_new_folder(folder: Path, argument: str) -> None:
    """ConfigError, naming the command-line `argument`, unless `folder` is missing or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{argument} {folder} exists and is not empty; choose another folder")


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder that is renamed to `folder` if the block succeeds, and removed otherwise."""
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
        temporary.replace(folder)  # replaces an empty folder
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process may have written there
            for parent in created:
                parent.rmdir()
        raise
