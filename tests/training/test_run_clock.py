"""Utilisation and goodput, with a clock that is set by hand."""

import types

import numpy as np
import pytest

from denoise_jax.training.log_interval import LogInterval
from denoise_jax.training.run_clock import RunClock
from tests.training.test_log_interval import STEP


def _mesh(kind: str, devices: int):
    """What `RunClock` reads of a mesh."""
    device = types.SimpleNamespace(device_kind=kind)
    return types.SimpleNamespace(size=devices, devices=np.array([device] * devices))


@pytest.mark.parametrize(("kind", "mfu"), [("TPU v5 lite", 0.5), ("NVIDIA H100 80GB HBM3", 98.5 / 989)])
def test_utilisation_is_that_of_one_device(monkeypatch, kind, mfu):
    clock = iter([10.0, 12.0, 12.0])  # the interval begins; its end, twice
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    flops_of_a_step = 4 * 98.5e12
    run = RunClock(flops_of_a_step, _mesh(kind, 4), start=4.0)
    interval = LogInterval()
    interval.add(1, STEP)
    interval.skip()
    values = run.values(interval)  # two steps in two seconds, after six seconds of compiling
    assert values["train/tflops"] == pytest.approx(98.5)
    assert values["train/mfu"] == pytest.approx(mfu)
    assert values["train/goodput"] == pytest.approx(2 / 8)


def test_nothing_is_claimed_about_unknown_chips():
    interval = LogInterval()
    interval.add(1, STEP)
    assert "train/mfu" not in RunClock(1.0, _mesh("cpu", 1), start=0.0).values(interval)
