"""Configurations by name."""

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from denoise_jax import user_packages
from denoise_jax.config import Config, load_json
from denoise_jax.errors import ConfigError, UserError, nearest


def load_config(name: str) -> Config:
    """The configuration `name`.

    Args:
      name: a module in `configs/`, ours or in the working directory ("quickstart"); a dotted module with a
        function `config()` ("my_package.my_run"); or the path of a JSON file ("runs/mine/config.json").

    Raises:
      ConfigError: no such configuration (the message names similar ones), or an invalid one.
    """
    if name.endswith(".json"):
        if not Path(name).is_file():
            raise ConfigError(f"no configuration file {name}")
        return validated(lambda: load_json(Path(name).read_bytes()), f"configuration {name}: ")
    known = user_packages.module_names("configs")
    if name not in known and "." not in name:
        raise ConfigError(f"there is no configuration {name!r}; {nearest(name, known)}")
    try:
        module = user_packages.import_module(f"configs.{name}" if name in known else name)
        config = validated(module.config, f"configuration {name}: ")
        if not isinstance(config, Config):
            raise TypeError(f"config() returned {type(config).__name__}, not a Config")
        return config
    except UserError:
        raise
    except Exception as error:  # a user's module can raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(f"configuration {name!r}: {reason}; give a module that defines config()") from None


def validated(make: Callable[[], Config], where: str = "") -> Config:
    """`make()`; ConfigError in one line, after `where`, if pydantic finds the configuration invalid."""
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
