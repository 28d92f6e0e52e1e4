"""Where logs are written: the run folder itself or, of a run in a bucket, a local copy that is uploaded."""

import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from denoise_jax.errors import reason_of
from denoise_jax.files import write_atomically
from denoise_jax.paths import is_remote


class LogFolder:
    """A local folder `path` for metrics, TensorBoard files and plots: a bucket has no files to append to.

    Args of the constructor:
      run: the run folder.
      copied: files of the run that are appended to, by name; they are fetched first.
    """

    def __init__(self, run: Path, copied: tuple[str, ...] = ()):
        self._run, self._remote = run, is_remote(run)
        self._uploaded: dict[Path, tuple[int, int]] = {}  # file → size, modification time
        self._uploads: Future | None = None
        if not self._remote:
            self.path = run
            return
        self._temporary = tempfile.TemporaryDirectory(prefix="denoise_jax-logs-")
        self.path = Path(self._temporary.name)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="logs")
        for name in copied:
            if (run / name).exists():
                write_atomically(self.path / name, (run / name).read_bytes())
                self._uploaded[self.path / name] = _state(self.path / name)

    def sync(self) -> None:
        """Uploads in the background what has changed, unless an upload is still running."""
        if self._remote and (self._uploads is None or self._uploads.done()):
            self._uploads = self._thread.submit(self._upload)

    def close(self) -> None:
        """Uploads everything and removes the local copy."""
        if not self._remote:
            return
        self._thread.shutdown(wait=True)
        for wait in (1, 2, 4, 8, 16, 0):
            if self._upload():
                break
            time.sleep(wait)
        self._temporary.cleanup()

    def _upload(self) -> bool:
        """Whether all could be uploaded; what could not is uploaded by the next call."""
        for file in sorted(file for file in self.path.rglob("*") if file.is_file()):
            state = _state(file)
            if self._uploaded.get(file) == state:
                continue
            target = self._run / file.relative_to(self.path).as_posix()
            try:
                write_atomically(target, file.read_bytes())
            except Exception as error:  # of many kinds; training goes on without its logs
                reason = reason_of(error)
                print(f"denoise-jax: {target} cannot be written: {reason}; trying again", file=sys.stderr)
                return False
            self._uploaded[file] = state
        return True


def _state(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns
