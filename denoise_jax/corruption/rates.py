"""Rates: the share of a text that noise affects, exact as a decimal fraction, constant or scheduled.

A rate is a number or a schedule, which maps training steps (int64 [E]) to shares (float [E]).

Shapes: E examples, N values of a row partition with E rows.
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

FINEST = 1e-9  # the smallest positive share: its denominator times any int32 fits into int64
_DENOMINATOR = 10**6  # of scheduled shares


@dataclasses.dataclass(frozen=True)
class Linear:
    """A schedule from `start` to `end` over `steps` training steps after step `begin`; constant outside."""

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
        progress = tf.clip_by_value(tf.cast(steps - self.begin, tf.float64) / self.steps, 0.0, 1.0)
        return self.start + (self.end - self.start) * progress


class Rate:
    """A share between 0 and 1: a number, a bool (True is 1) or a schedule.

    A number means the decimal that it is written as or, with more than nine decimal places, the nearest
    fraction with a denominator up to 10^9, so that 1 / 3 is a third. The shares of a schedule are rounded to
    millionths. A schedule is evaluated at some four thousand steps, among them the first thousand; at all
    other steps it is clipped to the largest share found, `greatest`.

    Raises CorruptionError, naming `field`, for a share outside 0 ... 1, or a positive one below 1e-9.
    """

    def __init__(self, value: float | Schedule, field: str):
        self.schedule, self.share = (value, None) if callable(value) else (None, _share(value, field))
        samples = [] if self.schedule is None else _sampled(self.schedule, field)
        for share in samples:
            if not 0 <= share <= 1:
                raise CorruptionError(f"{field}={share:g} must lie between 0 and 1")
        self.greatest = Fraction(round(max(samples) * _DENOMINATOR), _DENOMINATOR) if samples else self.share

    @property
    def never(self) -> bool:
        """Whether the rate is 0 at every step."""
        return self.share == 0

    def counts(
        self, sizes: tf.Tensor, steps: tf.Tensor, rounding: str = "ceil", key: tf.Tensor | None = None
    ) -> tf.Tensor:
        """How many of `sizes` [E] units to take at training steps [E]: int32 [E].

        `rounding` "ceil", "floor" and "round" (half up) are computed in integers: 7 % of 100 is 7, not 8 by a
        floating-point error. "stochastic" rounds up or down at random, with the rate itself as the mean.
        """
        numerator, denominator = self._fraction(steps)
        wanted = tf.cast(sizes, tf.int64) * numerator
        if rounding == "stochastic":
            threshold = tf.cast(wanted % denominator, tf.float64) / denominator * 2**32 - 2**31
            # The stream has the option's former name: names of streams define the noise, see `keys`.
            added = tf.where(tf.cast(draw(key, "budget"), tf.float64) < threshold, denominator - 1, 0)
        else:
            added = {"ceil": denominator - 1, "floor": 0, "round": denominator // 2}[rounding]
        return tf.cast((wanted + tf.cast(added, tf.int64)) // denominator, tf.int32)

    def hits(self, draws: tf.Tensor, partition: RowPartition, steps: tf.Tensor) -> tf.Tensor:
        """True with the probability of this rate, independently, from uniform int32 draws [N]: bool [N]."""
        numerator, denominator = self._fraction(steps)
        threshold = numerator * 2**32 // denominator - 2**31
        if self.schedule is not None:
            threshold = partition.broadcast(threshold)
        return tf.cast(draws, tf.int64) < threshold

    def _fraction(self, steps: tf.Tensor):
        """Numerator and denominator; of a schedule, numerators int64 [E]."""
        if self.schedule is None:
            return self.share.numerator, self.share.denominator
        shares = tf.clip_by_value(tf.cast(self.schedule(steps), tf.float64), 0.0, float(self.greatest))
        return tf.cast(tf.round(shares * _DENOMINATOR), tf.int64), _DENOMINATOR


def _share(value: float, field: str) -> Fraction:
    value = int(value) if isinstance(value, bool | np.bool_) else value
    check_number(field, value, 0, 1, must="lie between 0 and 1")
    if 0 < value < FINEST:
        raise CorruptionError(f"{field}={value} is too small; give 0, or {FINEST:g} or more")
    return Fraction(str(value)).limit_denominator(round(1 / FINEST))


def _sampled(schedule: Schedule, field: str) -> list[float]:
    """The schedule's shares at many steps, evaluated eagerly even while a graph is being traced."""
    with tf.init_scope():
        later = np.geomspace(1000, LAST_STEP, 3000).astype(np.int64)
        steps = tf.constant([*range(1000), *np.unique(later), LAST_STEP], tf.int64)
        shares = schedule(steps)
        try:
            shares = tf.cast(shares, tf.float64)
        except (TypeError, ValueError, tf.errors.UnimplementedError):
            raise CorruptionError(
                f"{field}: a schedule must return numbers, but this one returns {shares!r}"
            ) from None
        if shares.shape != steps.shape:
            raise CorruptionError(
                f"{field}: a schedule must return a share for each step; for steps of shape {steps.shape} "
                f"this one returns shares of shape {shares.shape}"
            )
        return shares.numpy().tolist()


def check_rounding(rounding: str) -> str:
    """Returns `rounding`; raises CorruptionError if it is not one of ROUNDINGS."""
    if rounding not in ROUNDINGS:
        raise CorruptionError(f"rounding={rounding!r} is unknown; choose one of {', '.join(ROUNDINGS)}")
    return rounding
