"""Stopping on SIGTERM or Ctrl-C: after a checkpoint, or at once while there is nothing to save."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType

import jax
from jax.experimental import multihost_utils


class StopSignal:
    """A context in which SIGTERM and the first Ctrl-C request a stop; a second Ctrl-C interrupts.

    Until `nothing_to_save` is left, a signal ends a run of one process at once, even in the middle of a
    compilation. With several processes JAX's coordination service handles SIGTERM: all stop at the same poll.
    """

    def __init__(self):
        self._requested, self._polls = False, 0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            watched = [signal.SIGINT] + ([signal.SIGTERM] if jax.process_count() == 1 else [])
            for number in watched:
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def requested(self) -> bool:
        """Whether to stop now; every process polls equally often, and gets the same answer."""
        self._polls += 1
        if jax.process_count() > 1:
            return bool(multihost_utils.reached_preemption_sync_point(self._polls))
        return self._requested

    @contextlib.contextmanager
    def nothing_to_save(self, clean_up: Callable[[], object]):
        """While the block runs, a signal calls `clean_up` and ends the process with exit code 0.

        A handler in Python runs only when the main thread returns from a compilation, which may take longer
        than the grace time. Python's wake-up file descriptor tells another thread at once.
        """
        if jax.process_count() > 1 or not self._previous:
            yield
            return
        reading, writing = socket.socketpair()
        writing.setblocking(False)
        previous = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        thread = threading.Thread(target=_end_on_signal, args=(reading, clean_up), daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            writing.close()  # ends the thread
            thread.join()
            reading.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._requested:
            raise KeyboardInterrupt
        self._requested = True
        if number == signal.SIGINT and jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)  # so that the other processes stop too


def _end_on_signal(reading: socket.socket, clean_up: Callable[[], object]) -> None:
    while received := reading.recv(1):
        if received[0] in (signal.SIGTERM, signal.SIGINT):
            print("stopped before the first step: there is nothing to save", file=sys.stderr, flush=True)
            try:
                clean_up()
            finally:  # some of it works in the main thread only
                os._exit(0)
