"""A first signal requests a stop, a second Ctrl-C interrupts, and the handlers are restored."""

import os
import signal

import pytest

from denoise_jax.training.preemption import StopSignal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_requests_a_stop_and_its_handler_is_restored(number):
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert not stop.requested(1)
        os.kill(os.getpid(), number)
        assert stop.requested(2)
    assert signal.getsignal(number) is before


def test_a_second_interrupt_is_not_held_back():
    with StopSignal():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
