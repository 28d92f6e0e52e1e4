"""Command lines by tyro, with its errors told in one line; and configurations by name."""

import contextlib
import importlib
import io
import os
import pkgutil
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import tyro
from pydantic import ValidationError

from denoise_jax.config import Config, load_json
from denoise_jax.errors import ConfigError, UserError, nearest

T = TypeVar("T")


def parse(arguments: type[T], argv: Sequence[str], command: str, default: T | None = None) -> T:
    """The dataclass `arguments` from a command line; UserError in one line, naming near flags on a typo."""
    told = io.StringIO()
    options = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(told), _wide_terminal("-h" not in argv and "--help" not in argv):
            return tyro.cli(
                arguments,
                args=list(argv),
                prog=f"denoise-jax {command}",
                description=arguments.__doc__,
                config=(tyro.conf.FlagConversionOff,)
                if default is not None
                else (tyro.conf.FlagCreatePairsOff,),
                **options,
            )
    except SystemExit as exit:
        if not exit.code:
            raise
        raise UserError(_one_line(told.getvalue())) from None
    except ValidationError as error:
        raise ConfigError(findings(error)) from None


def load_config(name: str) -> Config:
    """A configuration: a name in `configs/`, a dotted module with `config()`, or the JSON file of a run.

    Raises:
      ConfigError: there is no such configuration (the nearest are named), or it breaks a bound.
    """
    if name.endswith(".json"):
        if not Path(name).is_file():
            raise ConfigError(f"no configuration file {name}")
        return checked(lambda: load_json(Path(name).read_bytes()), name)
    import configs

    known = sorted(module.name for module in pkgutil.iter_modules(configs.__path__))
    module = f"configs.{name}" if name in known else name
    if name not in known and "." not in name:
        raise ConfigError(f"there is no configuration {name!r}; {nearest(name, known)}")
    try:
        found = checked(importlib.import_module(module).config, name)
        if not isinstance(found, Config):
            raise TypeError(f"config() returned {type(found).__name__}, not a Config")
        return found
    except UserError:
        raise
    except Exception as error:  # whatever a user's module raises
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(f"configuration {name!r}: {reason}; a module with config() is needed") from None


def checked(make, where: str) -> Config:
    """`make()`, with pydantic's findings as one ConfigError."""
    try:
        return make()
    except ValidationError as error:
        raise ConfigError(f"configuration {where}: {findings(error)}") from None


def findings(error: ValidationError) -> str:
    """What pydantic found, in one line: each field and what is wrong with it."""
    found = [(".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in error.errors()]
    return "; ".join(f"{field}: {message}" if field else message for field, message in found)


@contextlib.contextmanager
def _wide_terminal(wide: bool):
    """Keeps tyro from breaking lines inside of words that are read again here."""
    before = os.environ.get("COLUMNS")
    if wide:
        os.environ["COLUMNS"] = "2000"
    try:
        yield
    finally:
        if wide:
            os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)


def _one_line(box: str) -> str:
    """The findings in one of tyro's boxes, without frame, pydantic's type notes and pointers to --help."""
    lines = [line.strip("│╭╰╮╯─ \t") for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()]
    lines = [line for line in lines if line][1:]  # the first is the box's title
    text = " ".join(
        line for line in lines if not line.startswith(("For full helptext", "For further information"))
    )
    text = re.sub(r"\[type=\w+, input_value=(.*?), input_type=\w+\]", r"(got \1)", text)
    text = re.sub(r" \(got \{.*?\}\)", "", text)
    text = re.sub(
        r"Error parsing config\.(\w+): 1 validation error for \w+ (\w+) Input", r"\1.\2: input", text
    )
    text = re.sub(r"Error parsing (?:config\.?)?(\S*): \d+ validation errors? for \w+ ?", r"\1: ", text)
    text = text.replace(": Value error, ", ": ").removeprefix(": ")
    return re.sub(r"\s+", " ", text).strip() or "the command line was not understood; try --help"


def check_utf8(name: str, text: str) -> None:
    """UserError, with `name`, for a text of other bytes than UTF-8, which Python keeps as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        wrong = f"character {error.start + 1} is the byte 0x{ord(text[error.start]) & 0xFF:02x}"
        raise UserError(f"{name} is not UTF-8: {wrong}; convert it first") from None
