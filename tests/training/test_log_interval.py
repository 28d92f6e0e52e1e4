"""Means over the tokens of an interval, and a loss or norm that is not finite stops at its step."""

import math

import pytest

from denoise_jax.training.log_interval import LogInterval, NonFiniteLoss

STEP = {"loss": 30.0, "tokens": 10.0, "hidden_loss": 8.0, "hidden_tokens": 2.0}
STEP |= {"grad_norm": 1.0, "update_norm": 0.5}


def test_losses_are_means_over_tokens_and_norms_are_the_last_steps():
    interval = LogInterval()
    assert not interval
    interval.add(1, STEP)
    interval.add(2, STEP | {"loss": 60.0, "tokens": 20.0, "grad_norm": 3.0})
    assert interval
    values = interval.values(learning_rate=0.1)
    assert (values["train/loss"], values["train/hidden_loss"]) == (3.0, 4.0)
    assert (values["train/grad_norm"], values["train/tokens"]) == (3.0, 30.0)
    assert values["train/learning_rate"] == 0.1


def test_the_highest_loss_of_a_step_and_skipped_updates_are_recorded():
    interval = LogInterval()
    interval.add(1, STEP)
    interval.add(2, STEP | {"loss": 90.0})
    assert "train/skipped_updates" not in interval.values(0.1)
    interval.skip()
    values = interval.values(0.1)
    assert (values["train/loss"], values["train/highest_loss"]) == (6.0, 9.0)
    assert values["train/skipped_updates"] == 1


def test_time_is_split_between_data_and_steps_and_pauses_do_not_count(monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 4.0, 14.0, 20.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    interval = LogInterval()
    with interval.waiting_for_data():  # 1 to 3
        pass
    with interval.paused():  # 4 to 14
        pass
    interval.add(1, STEP)
    values = interval.values(0.1)  # at 20
    assert values["train/data_wait"] == pytest.approx(0.2)
    assert values["train/tokens_per_second"] == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["loss", "grad_norm", "update_norm"])
def test_what_is_not_finite_is_reported_with_its_step(name):
    with pytest.raises(NonFiniteLoss, match="step 7 gave loss "):
        LogInterval().add(7, STEP | {name: math.nan})
