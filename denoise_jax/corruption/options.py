"""Checks of options when a corruption is built, so that each mistake is told by its field and value."""

import numbers
import sys
from collections.abc import Iterable

from denoise_jax.errors import UserError

MAX_TOKENS = 2**24  # that an option may ask for in one text


class CorruptionError(UserError):
    """A mistake in a corruption's options, told in one line with the field, the value and the remedy."""


def check_number(
    field: str,
    value: float,
    least: float = -sys.float_info.max,
    most: float = sys.float_info.max,
    *,
    must: str,
    whole: bool = False,
) -> float:
    """`value`, a number in least ... most; with `whole` an int, and 3.0 will do for 3.

    Raises CorruptionError, "`field`=`value` must `must`", for a number outside, for nan and infinity, and for
    what is no number: text, None, a flag.
    """
    if not _is_number(value):
        raise CorruptionError(f"{field}={value!r} must {must}; a {type(value).__name__} is no number")
    if not least <= value <= most or (whole and value % 1):
        raise CorruptionError(f"{field}={value} must {must}")
    return int(value) if whole else value


def check_weights(field: str, weights: Iterable[float]) -> tuple[float, ...]:
    """The weights, in proportion to which one of several is chosen.

    Raises CorruptionError, naming `field`, unless they are finite numbers, none negative and not all 0.
    """
    weights = tuple(weights) if isinstance(weights, Iterable) else weights
    known = isinstance(weights, tuple) and all(_is_number(weight) and weight >= 0 for weight in weights)
    if not known or not 0 < sum(weights) <= sys.float_info.max:
        raise CorruptionError(f"{field}={weights!r} must be finite numbers, none negative, and not all 0")
    return tuple(map(float, weights))


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
