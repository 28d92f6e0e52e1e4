"""Rates: which share of a text noise takes, exactly as the decimal says, and how it changes while training.

A rate is a number, or a schedule: a function of training steps (int64 [e]) to shares (float [e]).
"""

import dataclasses
from collections.abc import Callable
from fractions import Fraction

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.rows import Rows
from denoise_jax.corruption.symbols import CorruptionError

BUDGETS = ("ceil", "floor", "round", "stochastic")
Schedule = Callable[[tf.Tensor], tf.Tensor]

_DENOMINATOR = 10**6  # of scheduled shares


@dataclasses.dataclass(frozen=True)
class Linear:
    """From `start` to `end` over `steps` training steps, beginning after step `begin`; flat on both sides."""

    start: float
    end: float
    steps: int
    begin: int = 0

    def __post_init__(self):
        if self.steps < 1:
            raise CorruptionError(f"steps={self.steps} of a linear schedule must be 1 or more")

    def __call__(self, steps: tf.Tensor) -> tf.Tensor:
        """Shares at training steps, int64: float64 of the same shape."""
        way = tf.clip_by_value(tf.cast(steps - self.begin, tf.float64) / self.steps, 0.0, 1.0)
        return self.start + (self.end - self.start) * way


class Rate:
    """A checked share between 0 and 1: a number, a flag (True is 1), or a schedule.

    Raises CorruptionError, naming `field`, for a share outside 0 ... 1; schedules are tried at a few steps,
    and clipped where they stray at others.
    """

    def __init__(self, value: float | Schedule, field: str):
        self.schedule = value if callable(value) else None
        for share in [value] if self.schedule is None else _tried(self.schedule, field):
            if not 0 <= float(share) <= 1:
                raise CorruptionError(f"{field}={float(share):g} must lie between 0 and 1")
        self.share = None if callable(value) else Fraction(repr(float(value))).limit_denominator(_DENOMINATOR)

    @property
    def never(self) -> bool:
        """Whether the rate is 0 whatever the step."""
        return self.share == 0

    def counts(
        self, sizes: tf.Tensor, steps: tf.Tensor, budget: str = "ceil", key: tf.Tensor | None = None
    ) -> tf.Tensor:
        """How many of `sizes` [e] to take, int32 [e], at training steps [e].

        `budget` "ceil", "floor" and "round" (halves up) are exact: 7 % of 100 is 7, and not 8 by a rounding
        error. "stochastic" rounds up or down at random, by the stream "budget" of `key`, so that the mean
        is the rate itself.
        """
        numerator, denominator = self._fraction(steps)
        if budget == "stochastic":
            added = tf.cast(draw(key, "budget") % denominator, tf.int64)
        else:
            added = {"ceil": denominator - 1, "floor": 0, "round": denominator // 2}[budget]
        return tf.cast((tf.cast(sizes, tf.int64) * numerator + added) // denominator, tf.int32)

    def hits(self, draws: tf.Tensor, rows: Rows, steps: tf.Tensor) -> tf.Tensor:
        """True with this probability, independently, from uniform int32 draws [n]: bool [n]."""
        numerator, denominator = self._fraction(steps)
        below = numerator * 2**32 // denominator - 2**31
        return tf.cast(draws, tf.int64) < (below if self.schedule is None else rows.spread(below))

    def _fraction(self, steps: tf.Tensor):
        if self.schedule is None:
            return self.share.numerator, self.share.denominator
        shares = tf.clip_by_value(tf.cast(self.schedule(steps), tf.float64), 0.0, 1.0)
        return tf.cast(tf.round(shares * _DENOMINATOR), tf.int64), _DENOMINATOR


def _tried(schedule: Schedule, field: str) -> list[float]:
    """Its shares at a few steps, computed at once even where a graph is being built."""
    with tf.init_scope():
        steps = tf.constant([0, *(10**k for k in range(10))], tf.int64)
        shares = tf.convert_to_tensor(schedule(steps))
        if shares.shape != steps.shape:
            raise CorruptionError(
                f"{field}: a schedule must give a share for each step: for steps of shape {steps.shape} "
                f"it gives shares of shape {shares.shape}"
            )
        return shares.numpy().tolist()


def check_budget(budget: str) -> str:
    """`budget`, or CorruptionError if it is none of BUDGETS."""
    if budget not in BUDGETS:
        raise CorruptionError(f"budget={budget!r} is no rounding; choose one of {', '.join(BUDGETS)}")
    return budget
