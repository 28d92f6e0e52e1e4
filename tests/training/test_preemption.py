"""A first signal requests a stop, a second Ctrl-C interrupts; with nothing to save one ends the process."""

import os
import signal
import subprocess
import sys

import pytest

from denoise_jax.training.preemption import StopSignal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_requests_a_stop_and_its_handler_is_restored(number):
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert not stop.requested()
        os.kill(os.getpid(), number)
        assert stop.requested()
    assert signal.getsignal(number) is before


def test_a_second_interrupt_is_not_held_back():
    with StopSignal():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_thread_for_early_signals_ends_with_its_block():
    with StopSignal() as stop:
        with stop.nothing_to_save(pytest.fail):
            assert signal.set_wakeup_fd(-1) >= 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested()
    assert signal.set_wakeup_fd(-1) == -1


# The main thread is in C code that runs no signal handlers of Python, as it is during a compilation.
BUSY = """
import ctypes, sys
from denoise_jax.training.preemption import StopSignal
with StopSignal() as stop, stop.nothing_to_save(lambda: (print("cleaned up", flush=True), stop.__exit__())):
    print("started", flush=True)
    libc = ctypes.CDLL(None)
    while True:
        libc.sleep(60)
"""


def test_a_signal_ends_a_process_that_is_compiling():
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "started\n"
        process.terminate()
        assert process.wait(timeout=10) == 0
        assert process.stdout.read() == "cleaned up\n"
