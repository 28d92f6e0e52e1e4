"""Standard error without the start-up messages of libraries, and progress bars."""

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator

from denoise_jax.config import Config
from denoise_jax.errors import UserError


@contextlib.contextmanager
def quiet():
    """Holds back what libraries write to stderr inside the block, and prints it only if the block fails.

    No setting silences the start-up lines of TensorFlow's C++ code, so file descriptor 2 is redirected.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # prints a line, and does not speed up data pipelines
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
    """Keeps only errors: the warnings of SeqIO and others are nothing a user can act on.

    Nor are the errors of Orbax (absl, asyncio) and gcsfs: of a full disk, which we report, hundreds of lines.
    """
    import absl.logging

    absl.logging.set_verbosity(absl.logging.FATAL)
    for name in ("jax", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ("asyncio", "gcsfs"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    sys.unraisablehook = _report_unraisable


def _report_unraisable(found) -> None:
    """Python's hook, without TensorStore's calls to the event loop of a save that has failed."""
    if not (found.exc_type is RuntimeError and str(found.exc_value) == "Event loop is closed"):
        sys.__unraisablehook__(found)


@contextlib.contextmanager
def counter(description: str, total: int | None = None, *, shown: bool = True) -> Iterator[Callable]:
    """Yields `progress(done, total=None)`, which updates a progress bar on stderr.

    The bar appears if `shown` and stderr is a terminal. `total` may be given here or with each call.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done, total=None: bar.update(task, completed=done, total=total)


def report_export_problem(config: Config) -> None:
    """Says on stderr, before a run, that its model cannot be exported to Transformers."""
    from denoise_jax.interop.model_config import export_problem

    if problem := export_problem(config.model):
        print(f"denoise-jax: note: {problem}", file=sys.stderr)
