"""Laws of span lengths, sampled by one look-up in a table of cumulative probabilities: no loop, no logarithm.

Tables resolve 2^-24 or better; a law's tail below 2^-32 is left out and the rest is scaled up to one.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import tensorflow as tf

from denoise_jax.corruption.options import MAX_TOKENS, CorruptionError, check_number, check_weights

DISTRIBUTIONS = ("geometric", "poisson", "constant", "uniform", "empirical")
MAX_MEAN = 1000.0  # tables of the laws with a name stay below some 22,000 entries
MAX_LENGTHS = 2**15  # in the table of the empirical law: sums over the spans of a text stay within int32
_TAIL = 2.0**-32


@dataclasses.dataclass(frozen=True)
class SpanLengthDistribution:
    """P(length = 1), P(2), ... of spans that hide something; `zero` is the share of empty draws."""

    probabilities: tuple[float, ...]
    zero: float = 0.0

    def lengths(self, draws: tf.Tensor) -> tf.Tensor:
        """Lengths, int32 >= 1, from uniform int32 draws of the same shape."""
        return 1 + look_up(self.probabilities, draws)

    def zeros_before(self, draws: tf.Tensor) -> tf.Tensor:
        """How many zero-length spans come before one that hides something; int32 >= 0, shape of `draws`.

        Drawing until the length is positive sees k zeros first with probability zero^k (1 - zero).
        """
        count = math.ceil(math.log(_TAIL) / math.log(self.zero)) if self.zero else 1
        return look_up(tuple((1 - self.zero) * self.zero**k for k in range(count)), draws)


def look_up(probabilities: tuple[float, ...], draws: tf.Tensor) -> tf.Tensor:
    """Index distributed as `probabilities` (scaled to sum to one), from uniform int32 draws; shape kept."""
    total = math.fsum(probabilities)
    # The greatest draws round up to 2^31 here, and would find an index behind the last that has a chance.
    last = max(index for index, p in enumerate(probabilities) if p > 0)
    below = itertools.accumulate(p / total * 2**32 for p in probabilities[:last])
    return tf.raw_ops.Bucketize(input=draws, boundaries=[b - 2**31 for b in below])


def span_length_distribution(
    name: str,
    mean_span_length: float,
    max_span_length: int | None = None,
    span_length_weights: Sequence[float] | None = None,
) -> SpanLengthDistribution:
    """The named law.

    geometric: P(l) = (1 - 1/m)^(l - 1) / m with m the mean (SpanBERT's family, Joshi et al. 2020).
    poisson: lambda is `mean_span_length`, as in BART (Lewis et al. 2019); zero lengths are told apart as
        `zero`, the rest is the zero-truncated law, of mean lambda / (1 - exp(-lambda)).
    constant: always the mean. uniform: on 1 ... 2 mean - 1.
    empirical: lengths 1, 2, ... in proportion to `span_length_weights`; the mean is theirs.
    A draw above `max_span_length` is drawn again, as SpanBERT's figures imply: no heap at the limit.
    Raises CorruptionError for an unknown law, or a mean or maximum that the law does not allow.
    """
    if name not in DISTRIBUTIONS:
        raise CorruptionError(
            f"span_length={name!r} is no law of span lengths; choose one of {', '.join(DISTRIBUTIONS)}"
        )
    if (name == "empirical") != (span_length_weights is not None):
        raise CorruptionError(
            f"span_length={name!r} with span_length_weights={span_length_weights}: "
            "give weights for the empirical law, and for no other"
        )
    longest = max_span_length
    if longest is not None:
        must = f"be a whole number of tokens, 1 to {MAX_TOKENS}, or None for any"
        longest = check_number("max_span_length", longest, 1, MAX_TOKENS, must=must, whole=True)
    must = f"lie in 1 ... {MAX_MEAN:g}"
    mean = float(check_number("mean_span_length", mean_span_length, 1, MAX_MEAN, must=must))
    if name == "empirical":
        weights = check_weights("span_length_weights", span_length_weights)
        if len(weights) > MAX_LENGTHS:
            raise CorruptionError(
                f"span_length_weights has {len(weights)} lengths; give {MAX_LENGTHS} at most"
            )
        return SpanLengthDistribution(check_weights("span_length_weights", weights[:longest]))
    if name in ("constant", "uniform") and (mean if name == "constant" else 2 * mean) % 1:
        unit = "a whole number" if name == "constant" else "a multiple of 0.5"
        raise CorruptionError(f"mean_span_length={mean_span_length} must be {unit} for the {name} law")
    if name == "constant" and longest is not None and longest < mean:
        raise CorruptionError(f"max_span_length={longest} is below the constant length {mean:g}")
    zero = math.exp(-mean) if name == "poisson" else 0.0
    return SpanLengthDistribution(_positive(name, mean, longest or math.inf), zero)


def _positive(name: str, mean: float, longest: float) -> tuple[float, ...]:
    """P(1), P(2), ... up to a scale, as far as `longest` or until the tail is negligible."""
    if name == "constant":
        return (0.0,) * (int(mean) - 1) + (1.0,)
    if name == "uniform":
        return (1.0,) * int(min(longest, 2 * mean - 1))
    if name == "geometric":
        stay = 1 - 1 / mean
        enough = math.ceil(math.log(_TAIL) / math.log(stay)) if stay else 1
        return tuple(stay**k / mean for k in range(int(min(longest, enough))))
    # Twelve standard deviations and some: the Poisson tail there is far below 2^-32 for every mean.
    enough = math.ceil(mean + 12 * math.sqrt(mean) + 20)
    logs = [k * math.log(mean) - math.lgamma(k + 1) for k in range(1, int(min(longest, enough)) + 1)]
    return tuple(math.exp(log - max(logs)) for log in logs)
