"""A clean terminal: TensorFlow's start-up noise is held back, and shown only if the import fails."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator

from denoise_jax.errors import UserError


@contextlib.contextmanager
def quiet():
    """Holds back what libraries write to stderr in this block; it is shown if something breaks in it.

    TensorFlow's C++ start-up lines cannot be turned off by its own settings, so the file descriptor itself
    is turned aside.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # nothing to gain in data pipelines, and it prints
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException as error:
            _restore(terminal)
            if not isinstance(error, UserError):
                held.seek(0)
                sys.stderr.write(held.read().decode(errors="replace"))
            raise
        else:
            _restore(terminal)
    _quiet_loggers()


def _restore(terminal: int) -> None:
    sys.stderr.flush()
    os.dup2(terminal, 2)
    os.close(terminal)


def _quiet_loggers() -> None:
    """Warnings of Orbax, SeqIO and the like tell a user nothing that can be acted on; errors stay."""
    import absl.logging

    absl.logging.set_verbosity(absl.logging.ERROR)
    for name in ("absl", "jax", "tensorflow", "orbax"):
        logging.getLogger(name).setLevel(logging.ERROR)


def tracked(description: str, total: int | None = None):
    """A function that passes the items of an iterable on under a progress bar, in a terminal only.

    `total`: how many there are, where the iterable does not tell.
    """
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)

    def pass_on(items):
        return track(
            items,
            description,
            total=total,
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    return pass_on


@contextlib.contextmanager
def counter(description: str, total: int | None = None, *, shown: bool = True) -> Iterator[Callable]:
    """advance(done, total=None), to be told how many are done, and of how many once that is known.

    A bar on a terminal's stderr where `shown`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done, total=None: bar.update(task, completed=done, total=total)
