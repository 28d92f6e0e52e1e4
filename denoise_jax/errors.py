"""Errors that the user can fix. The command line prints them in one line, and exits with code 2 or 75."""

import difflib
import errno
from collections.abc import Iterable

TEMPORARY = 75  # exit code, EX_TEMPFAIL: launchers start the same command again


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
_UNREACHABLE = {errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT}
_TEMPORARY_ERRNOS = _FULL | _UNREACHABLE  # aiohttp's errors are no ConnectionError


class UserError(ValueError):
    """The message names the field or file, its value and the remedy."""


class ConfigError(UserError):
    """An invalid configuration, or one that does not match its run."""


class DataError(UserError):
    """A missing, empty or unusable task, corpus or vocabulary."""


class CheckpointError(UserError):
    """A missing, damaged or unusable run folder or checkpoint."""


class StorageError(UserError):
    """A disk or bucket that is full or cannot be reached. Worth another try: exit code `TEMPORARY`."""


class LostProcessError(UserError):
    """Another process of the run has ended. Worth another try of all: exit code `TEMPORARY`."""


def is_temporary(error: Exception) -> bool:
    """Whether another try may succeed: a disk was full, a server did not answer, a process was lost."""
    if isinstance(error, OSError) and error.errno in _TEMPORARY_ERRNOS:
        return True
    return isinstance(error, (StorageError, LostProcessError, ConnectionError, TimeoutError))


def reason_of(error: BaseException) -> str:
    """The start of an error's message, which may have hundreds of lines, none, or be only a URL."""
    line = next(iter(str(error).strip().splitlines()), "")[:200]
    return line if " " in line else f"{type(error).__name__} {line}".strip()


def nearest(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """A hint for a misspelt name: the closest known names. If none is close: `otherwise`, or all names."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return otherwise or f"choose from {', '.join(known)}"
