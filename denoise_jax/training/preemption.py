"""Stopping at a step boundary when the machine is taken away (SIGTERM) or the user presses Ctrl-C."""

import signal
from types import FrameType

import jax
from jax.experimental import multihost_utils


class StopSignal:
    """A context in which SIGTERM and the first Ctrl-C ask to save and stop; a second Ctrl-C interrupts."""

    def __init__(self):
        self._asked = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        # With several processes the coordination service handles SIGTERM and agrees on a common step.
        watched = [signal.SIGINT] + ([signal.SIGTERM] if jax.process_count() == 1 else [])
        for number in watched:
            self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def asked(self, step: int) -> bool:
        """Whether to stop at `step`; the same answer in every process of a run."""
        if jax.process_count() > 1:
            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self._asked

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True
