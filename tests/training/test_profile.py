"""Traces of some steps of a run."""

import jax
import jax.numpy as jnp
import pytest

from denoise_jax.errors import UserError
from denoise_jax.training.profile import Profiler, parse_steps


def test_steps_are_parsed():
    assert parse_steps("100:105") == parse_steps("steps=100:105") == range(100, 105)


@pytest.mark.parametrize("text", ["", "5", "5:5", "7:3", "a:b", "1:2:3"])
def test_what_names_no_steps_is_refused(text):
    with pytest.raises(UserError, match=r"give the first step and the one after the last, such as 100:105"):
        parse_steps(text)


def test_a_trace_is_written_after_its_last_step(tmp_path):
    profiler = Profiler(range(2, 4), tmp_path)
    for step in range(6):
        profiler.before_step(step)
        assert profiler.running == (step in (2, 3))
        jax.block_until_ready(jnp.arange(10) * step)
        assert bool(list(tmp_path.rglob("*.xplane.pb"))) == (step > 3)
    profiler.close()


def test_a_run_that_ends_in_its_trace_writes_it(tmp_path):
    profiler = Profiler(range(0, 100), tmp_path)
    profiler.before_step(0)
    profiler.close()
    assert list(tmp_path.rglob("*.xplane.pb"))
