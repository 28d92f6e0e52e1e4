"""Stopping at a step boundary on preemption (SIGTERM) or Ctrl-C."""

import signal
from types import FrameType

import jax
from jax.experimental import multihost_utils


class StopSignal:
    """A context in which SIGTERM and the first Ctrl-C request a stop; a second Ctrl-C interrupts."""

    def __init__(self):
        self._requested = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        # With several processes, JAX's coordination service handles SIGTERM and finds a common step.
        watched = [signal.SIGINT] + ([signal.SIGTERM] if jax.process_count() == 1 else [])
        for number in watched:
            self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def requested(self, step: int) -> bool:
        """Whether to stop at `step`; the same in every process of a run."""
        if jax.process_count() > 1:
            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self._requested

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._requested = True
