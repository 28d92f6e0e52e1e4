"""Errors of pydantic as one line for the user."""

from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError

from denoise_jax.errors import ConfigError

T = TypeVar("T")


def validated(make: Callable[[], T], where: str = "") -> T:
    """`make()`; ConfigError in one line, after `where`, if pydantic rejects its values."""
    try:
        return make()
    except ValidationError as error:
        raise ConfigError(where + explain(error)) from None


def explain(error: ValidationError) -> str:
    """pydantic's findings in one line: each field, what is wrong with it, and its value."""
    findings = []
    for found in error.errors():
        field, message, value = ".".join(map(str, found["loc"])), found["msg"], found["input"]
        if found["type"] == "value_error":  # from a validator of ours, whose message has the values
            message = message.removeprefix("Value error, ")
        else:
            message = message[0].lower() + message[1:]
            if isinstance(value, str | int | float | None) and found["type"] != "json_invalid":
                message += f" (got {value!r})"
        findings.append(f"{field}: {message}" if field else message)
    return "; ".join(findings)
