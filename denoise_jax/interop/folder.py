"""A folder that appears whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from denoise_jax.errors import ConfigError


def check_new(folder: Path, argument: str) -> None:
    """ConfigError unless `folder` is empty or not there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{argument} {folder} exists and is not empty; choose another folder")


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`: it takes its name when the block ends well, and is else removed."""
    folder = folder.absolute()
    new = [parent for parent in folder.parents if not parent.exists()]  # innermost first
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)  # mkdtemp lets nobody else in, nor does safetensors
        for file in filter(Path.is_file, temporary.iterdir()):
            file.chmod(0o666 & ~mask)
        temporary.replace(folder)  # an empty folder there is replaced
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process may have put something there
            for parent in new:
                parent.rmdir()
        raise
