"""Checks of options at the time a corruption is built, so that an error names the field and its value."""

import numbers
import sys
from collections.abc import Iterable

from denoise_jax.errors import UserError

MAX_TOKENS = 2**24  # per text, for every option that counts tokens


class CorruptionError(UserError):
    """An invalid option of a corruption; the message names the field, the value and the remedy."""


def check_number(
    field: str,
    value: float,
    least: float = -sys.float_info.max,
    most: float = sys.float_info.max,
    *,
    must: str,
    whole: bool = False,
) -> float:
    """Returns `value` if it is a number in least ... most; with `whole`, as an int, where 3.0 counts as 3.

    Raises CorruptionError, "`field`=`value` must `must`", for other numbers, NaN and infinity, and for values
    that are not numbers: text, None, a bool.
    """
    if not _is_number(value):
        raise CorruptionError(f"{field}={value!r} must {must}, but a {type(value).__name__} is not a number")
    if not least <= value <= most or (whole and value % 1):
        raise CorruptionError(f"{field}={value} must {must}")
    return int(value) if whole else value


def check_weights(field: str, weights: Iterable[float]) -> tuple[float, ...]:
    """Returns the weights of a random choice as floats.

    Raises CorruptionError, naming `field`, unless they are finite numbers, none negative and not all 0.
    """
    weights = tuple(weights) if isinstance(weights, Iterable) else weights
    valid = isinstance(weights, tuple) and all(_is_number(weight) and weight >= 0 for weight in weights)
    if not valid or not 0 < sum(weights) <= sys.float_info.max:
        raise CorruptionError(f"{field}={weights!r} must be finite numbers, none negative, and not all 0")
    return tuple(map(float, weights))


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
