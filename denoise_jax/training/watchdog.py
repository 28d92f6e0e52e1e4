"""Ends a run that is stuck, so that it is started again."""

import faulthandler
import os
import sys
import threading
import time
from pathlib import Path

from denoise_jax.errors import TEMPORARY


class Watchdog:
    """Ends the process with code `TEMPORARY` if `beat` is not called for `seconds`, as a context manager.

    The stacks of all threads are first written to stderr and to `file`. A thread that waits in a collective
    operation or for a file system cannot be interrupted in any other way.

    Args of the constructor:
      seconds: 0: never.
    """

    def __init__(self, seconds: float, file: Path):
        self._seconds, self._file = seconds, file
        self._last = time.monotonic()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self.beat()
        if self._seconds:
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._closed.set()
        if self._seconds:
            self._thread.join()

    def beat(self) -> None:
        """Says that the run makes progress."""
        self._last = time.monotonic()

    def _watch(self) -> None:
        while not self._closed.wait(min(self._seconds / 10, 10)):
            if time.monotonic() - self._last > self._seconds:
                self._end()

    def _end(self) -> None:
        print(
            f"denoise-jax: no progress for {self._seconds:g} s; ending with code {TEMPORARY}, to be started "
            f"again; the stacks of all threads follow, and are in {self._file}",
            file=sys.stderr,
            flush=True,
        )
        faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
        with self._file.open("w") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        os._exit(TEMPORARY)
