"""What asyncio reports when a checkpoint fails: hundreds of lines, kept in a file of the run."""

import contextlib
import logging
from pathlib import Path

from denoise_jax.paths import is_remote

LOG = "libraries.log"

_WORDS = ("checkpoint", "OCDBT", "tensorstore", "gcsfs", "aiohttp")


class LibraryLog(logging.Filter):
    """Takes the records of checkpoints from asyncio's logger: one for each array, some long after a failure.

    Args of the constructor:
      run: the run folder, to whose `LOG` they are appended; None, and in a bucket: they are dropped.
    """

    def __init__(self, run: Path | None):
        super().__init__()
        self._file = None if run is None or is_remote(run) else run / LOG

    def filter(self, record: logging.LogRecord) -> bool:
        """False for the records taken."""
        text = logging.Formatter("%(asctime)s %(name)s: %(message)s").format(record)
        if not any(word in text for word in _WORDS):
            return True
        if self._file is not None:
            # A full disk may be what the record is about.
            with contextlib.suppress(OSError), self._file.open("a", encoding="utf-8") as log:
                log.write(text + "\n")
        return False


def keep_library_log(run: Path | None) -> None:
    """From here on, `LibraryLog` of `run` takes the records, in place of that of an earlier run."""
    logger = logging.getLogger("asyncio")
    for earlier in [found for found in logger.filters if isinstance(found, LibraryLog)]:
        logger.removeFilter(earlier)
    logger.addFilter(LibraryLog(run))
    logger.setLevel(logging.ERROR)  # `quiet` of the command line lets none of asyncio's errors pass
