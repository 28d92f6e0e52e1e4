"""Metrics of the steps since the last log line: sums, throughput, and the check that they are finite."""

import contextlib
import math
import time
from collections.abc import Mapping

_NORMS = ("grad_norm", "update_norm")  # logged for the last step of the interval; all else is summed
MUST_BE_FINITE = ("loss", *_NORMS)


class NonFiniteLoss(RuntimeError):
    """The loss, the gradient or the update is NaN or infinite; the message names the step."""


class LogInterval:
    """Sums over the steps since the last log line, and where their time went."""

    def __init__(self):
        self._sums: dict[str, float] = {}
        self._highest_loss, self._skipped = -math.inf, 0
        self.steps = 0  # skipped ones too
        self._data_wait = 0.0  # seconds
        self._start = time.perf_counter()

    def __bool__(self) -> bool:
        """Whether any step has been added."""
        return bool(self._sums)

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds the metrics of `step` (see `make_train_step`); NonFiniteLoss if they are not finite."""
        loss = metrics["loss"] / max(metrics["tokens"], 1)
        if not all(math.isfinite(metrics[name]) for name in MUST_BE_FINITE):
            norms = ", ".join(f"{name} {metrics[name]}" for name in _NORMS)
            raise NonFiniteLoss(
                f"step {step} gave loss {loss}, {norms}; all checkpoints are from earlier steps. Lower "
                "optimizer.learning_rate or optimizer.clip_norm and run again"
            )
        self.steps += 1
        self._highest_loss = max(self._highest_loss, float(loss))
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)
        self._sums |= {name: float(metrics[name]) for name in _NORMS}

    def skip(self) -> None:
        """Counts a step whose update was skipped, since it was not finite."""
        self._skipped += 1
        self.steps += 1

    @contextlib.contextmanager
    def waiting_for_data(self):
        """Counts the time in this block as waiting for data."""
        start = time.perf_counter()
        yield
        self._data_wait += time.perf_counter() - start

    @contextlib.contextmanager
    def paused(self):
        """Leaves the time in this block out of the throughput: it belongs to no step."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def seconds(self) -> float:
        """Time since the last log line, without pauses."""
        return time.perf_counter() - self._start

    def values(self, learning_rate: float) -> dict[str, float]:
        """What is logged: means over tokens, and rates over the time since the last line."""
        seconds, sums = self.seconds(), self._sums
        return {
            "train/loss": sums["loss"] / max(sums["tokens"], 1),
            "train/hidden_loss": sums["hidden_loss"] / max(sums["hidden_tokens"], 1),
            "train/highest_loss": self._highest_loss,  # of a single step: a spike shows here
            **({"train/skipped_updates": self._skipped} if self._skipped else {}),
            **{f"train/{name}": sums[name] for name in _NORMS},
            "train/learning_rate": learning_rate,
            "train/tokens": sums["tokens"],
            "train/tokens_per_second": sums["tokens"] / seconds,
            "train/data_wait": self._data_wait / seconds,
        }
