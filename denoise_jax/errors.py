"""Errors that are the user's to mend: the command line prints them as one line and exits with 2."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Names the field or file, its value and the remedy."""


class ConfigError(UserError):
    """A configuration that is wrong in itself or does not fit the run it is used on."""


class DataError(UserError):
    """A task, corpus or vocabulary that is missing, empty or unfit."""


class CheckpointError(UserError):
    """A run folder or checkpoint that cannot be used."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: the known names closest to it, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
