"""Rates: which share of a text noise takes, exactly as the decimal says, and how it changes while training.

A rate is a number, or a schedule: a function of training steps (int64 [e]) to shares (float [e]).
"""

import dataclasses
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import CorruptionError, check_number
from denoise_jax.corruption.record import LAST_STEP
from denoise_jax.corruption.row_partition import RowPartition

ROUNDINGS = ("ceil", "floor", "round", "stochastic")
Schedule = Callable[[tf.Tensor], tf.Tensor]

FINEST = 1e-9  # the least share above 0: times any int32, the counts stay within int64
_DENOMINATOR = 10**6  # of scheduled shares


@dataclasses.dataclass(frozen=True)
class Linear:
    """From `start` to `end` over `steps` training steps, beginning after step `begin`; flat on both sides."""

    start: float
    end: float
    steps: int
    begin: int = 0

    def __post_init__(self):
        for field in ("start", "end"):
            check_number(field, getattr(self, field), must="be a finite share")
        for field, least in (("steps", 1), ("begin", 0)):
            must = f"be a whole number of training steps, {least} or more"
            check_number(field, getattr(self, field), least, LAST_STEP, must=must, whole=True)

    def __call__(self, steps: tf.Tensor) -> tf.Tensor:
        """Shares at training steps, int64: float64 of the same shape."""
        way = tf.clip_by_value(tf.cast(steps - self.begin, tf.float64) / self.steps, 0.0, 1.0)
        return self.start + (self.end - self.start) * way


class Rate:
    """A checked share between 0 and 1: a number, a flag (True is 1), or a schedule.

    A number is the decimal that it is written as, or, where that has more than nine places, the fraction
    nearest to it of a denominator up to 10^9, so that 1 / 3 is a third. A schedule's shares are read in
    millionths; it is tried at some four thousand steps, the first thousand among them, and is held at all
    others to the greatest share that it showed there, `greatest`.
    Raises CorruptionError, naming `field`, for what is no share between 0 and 1, or one above 0 that is
    finer than 1e-9.
    """

    def __init__(self, value: float | Schedule, field: str):
        self.schedule, self.share = (value, None) if callable(value) else (None, _share(value, field))
        tried = [] if self.schedule is None else _tried(self.schedule, field)
        for share in tried:
            if not 0 <= share <= 1:
                raise CorruptionError(f"{field}={share:g} must lie between 0 and 1")
        self.greatest = Fraction(round(max(tried) * _DENOMINATOR), _DENOMINATOR) if tried else self.share

    @property
    def never(self) -> bool:
        """Whether the rate is 0 whatever the step."""
        return self.share == 0

    def counts(
        self, sizes: tf.Tensor, steps: tf.Tensor, rounding: str = "ceil", key: tf.Tensor | None = None
    ) -> tf.Tensor:
        """How many of `sizes` [e] to take, int32 [e], at training steps [e].

        `rounding` "ceil", "floor" and "round" (halves up) are exact: 7 % of 100 is 7, and not 8 by a rounding
        error. "stochastic" rounds up or down at random, by the stream "budget" of `key`, so that the mean
        is the rate itself.
        """
        numerator, denominator = self._fraction(steps)
        wanted = tf.cast(sizes, tf.int64) * numerator
        if rounding == "stochastic":
            left = tf.cast(wanted % denominator, tf.float64) / denominator * 2**32 - 2**31
            added = tf.where(tf.cast(draw(key, "budget"), tf.float64) < left, denominator - 1, 0)
        else:
            added = {"ceil": denominator - 1, "floor": 0, "round": denominator // 2}[rounding]
        return tf.cast((wanted + tf.cast(added, tf.int64)) // denominator, tf.int32)

    def hits(self, draws: tf.Tensor, partition: RowPartition, steps: tf.Tensor) -> tf.Tensor:
        """True with this probability, independently, from uniform int32 draws [n]: bool [n]."""
        numerator, denominator = self._fraction(steps)
        below = numerator * 2**32 // denominator - 2**31
        return tf.cast(draws, tf.int64) < (below if self.schedule is None else partition.broadcast(below))

    def _fraction(self, steps: tf.Tensor):
        if self.schedule is None:
            return self.share.numerator, self.share.denominator
        shares = tf.clip_by_value(tf.cast(self.schedule(steps), tf.float64), 0.0, float(self.greatest))
        return tf.cast(tf.round(shares * _DENOMINATOR), tf.int64), _DENOMINATOR


def _share(value: float, field: str) -> Fraction:
    """The number or flag as a fraction."""
    value = int(value) if isinstance(value, bool | np.bool_) else value
    check_number(field, value, 0, 1, must="lie between 0 and 1")
    if 0 < value < FINEST:
        raise CorruptionError(f"{field}={value} is too fine to be told from 0; give 0, or {FINEST:g} or more")
    return Fraction(str(value)).limit_denominator(round(1 / FINEST))


def _tried(schedule: Schedule, field: str) -> list[float]:
    """Its shares at many steps, computed at once even where a graph is being built."""
    with tf.init_scope():
        later = np.geomspace(1000, LAST_STEP, 3000).astype(np.int64)
        steps = tf.constant([*range(1000), *np.unique(later), LAST_STEP], tf.int64)
        shares = schedule(steps)
        try:
            shares = tf.cast(shares, tf.float64)
        except (TypeError, ValueError, tf.errors.UnimplementedError):
            raise CorruptionError(f"{field}: a schedule must give numbers, and gives {shares!r}") from None
        if shares.shape != steps.shape:
            raise CorruptionError(
                f"{field}: a schedule must give a share for each step: for steps of shape {steps.shape} "
                f"it gives shares of shape {shares.shape}"
            )
        return shares.numpy().tolist()


def check_rounding(rounding: str) -> str:
    """`rounding`, or CorruptionError if it is none of ROUNDINGS."""
    if rounding not in ROUNDINGS:
        raise CorruptionError(f"rounding={rounding!r} is unknown; choose one of {', '.join(ROUNDINGS)}")
    return rounding
