"""Distributions of span lengths, sampled by a table look-up: without loops and without logarithms.

The tables resolve probabilities of 2^-24 or better. Tails of less than 2^-32 are dropped, and the remaining
probabilities are rescaled to sum to one.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import tensorflow as tf

from denoise_jax.corruption.options import MAX_TOKENS, CorruptionError, check_number, check_weights

DISTRIBUTIONS = ("geometric", "poisson", "constant", "uniform", "empirical")
MAX_MEAN = 1000.0  # keeps the tables of all but the empirical distribution below some 22,000 entries
MAX_LENGTHS = 2**15  # of the empirical distribution; cumulative span lengths of a text fit into int32
_TAIL = 2.0**-32


@dataclasses.dataclass(frozen=True)
class SpanLengthDistribution:
    """P(length = 1), P(2), ... of the spans that hide something, and P(length = 0) in `zero`."""

    probabilities: tuple[float, ...]
    zero: float = 0.0

    def lengths(self, draws: tf.Tensor) -> tf.Tensor:
        """Positive lengths, int32, from uniform int32 draws of the same shape."""
        return 1 + look_up(self.probabilities, draws)

    def zeros_before(self, draws: tf.Tensor) -> tf.Tensor:
        """Number of empty spans drawn before the next non-empty one: int32, in the shape of `draws`.

        It is k with probability zero^k (1 - zero).
        """
        count = math.ceil(math.log(_TAIL) / math.log(self.zero)) if self.zero else 1
        return look_up(tuple((1 - self.zero) * self.zero**k for k in range(count)), draws)


def look_up(probabilities: tuple[float, ...], draws: tf.Tensor) -> tf.Tensor:
    """Indices distributed as `probabilities` (scaled to sum to one), from int32 draws of the same shape."""
    total = math.fsum(probabilities)
    # The largest draws are rounded up to 2^31 here, and would otherwise give an index of probability 0.
    last = max(index for index, p in enumerate(probabilities) if p > 0)
    boundaries = itertools.accumulate(p / total * 2**32 for p in probabilities[:last])
    return tf.raw_ops.Bucketize(input=draws, boundaries=[b - 2**31 for b in boundaries])


def span_length_distribution(
    name: str,
    mean_span_length: float,
    max_span_length: int | None = None,
    span_length_weights: Sequence[float] | None = None,
) -> SpanLengthDistribution:
    """Returns the distribution called `name`.

    geometric: P(l) = (1 - 1/m)^(l - 1) / m with mean m (the family of SpanBERT, Joshi et al. 2020).
    poisson: lambda is `mean_span_length` (BART, Lewis et al. 2019). `zero` is the probability of an empty
        span; the lengths of others are zero-truncated, with mean lambda / (1 - exp(-lambda)).
    constant: always the mean.
    uniform: on 1 ... 2 mean - 1.
    empirical: lengths 1, 2, ... in proportion to `span_length_weights`; `mean_span_length` is ignored.

    Lengths above `max_span_length` are rejected and drawn again, as the figures of SpanBERT imply, rather
    than clipped.

    Raises CorruptionError for an unknown name, or a mean, maximum or weights that it does not allow.
    """
    if name not in DISTRIBUTIONS:
        raise CorruptionError(f"span_length={name!r} is unknown; choose one of {', '.join(DISTRIBUTIONS)}")
    if (name == "empirical") != (span_length_weights is not None):
        raise CorruptionError(
            f"span_length={name!r} with span_length_weights={span_length_weights}: "
            "give weights for the empirical distribution and for no other"
        )
    longest = max_span_length
    if longest is not None:
        must = f"be a whole number of tokens, 1 to {MAX_TOKENS}, or None for no maximum"
        longest = check_number("max_span_length", longest, 1, MAX_TOKENS, must=must, whole=True)
    must = f"lie in 1 ... {MAX_MEAN:g}"
    mean = float(check_number("mean_span_length", mean_span_length, 1, MAX_MEAN, must=must))
    if name == "empirical":
        weights = check_weights("span_length_weights", span_length_weights)
        if len(weights) > MAX_LENGTHS:
            raise CorruptionError(
                f"span_length_weights has {len(weights)} lengths; give at most {MAX_LENGTHS}"
            )
        return SpanLengthDistribution(check_weights("span_length_weights", weights[:longest]))
    if name in ("constant", "uniform") and (mean if name == "constant" else 2 * mean) % 1:
        unit = "a whole number" if name == "constant" else "a multiple of 0.5"
        raise CorruptionError(
            f"mean_span_length={mean_span_length} must be {unit} for the {name} distribution"
        )
    if name == "constant" and longest is not None and longest < mean:
        raise CorruptionError(f"max_span_length={longest} is below the constant length {mean:g}")
    zero = math.exp(-mean) if name == "poisson" else 0.0
    return SpanLengthDistribution(_positive(name, mean, longest or math.inf), zero)


def _positive(name: str, mean: float, longest: float) -> tuple[float, ...]:
    """P(1), P(2), ... up to a constant factor, until `longest` or until the tail is negligible."""
    if name == "constant":
        return (0.0,) * (int(mean) - 1) + (1.0,)
    if name == "uniform":
        return (1.0,) * int(min(longest, 2 * mean - 1))
    if name == "geometric":
        stay = 1 - 1 / mean
        enough = math.ceil(math.log(_TAIL) / math.log(stay)) if stay else 1
        return tuple(stay**k / mean for k in range(int(min(longest, enough))))
    # Beyond twelve standard deviations plus 20 the Poisson tail is far below 2^-32 for every mean.
    enough = math.ceil(mean + 12 * math.sqrt(mean) + 20)
    logs = [k * math.log(mean) - math.lgamma(k + 1) for k in range(1, int(min(longest, enough)) + 1)]
    return tuple(math.exp(log - max(logs)) for log in logs)
