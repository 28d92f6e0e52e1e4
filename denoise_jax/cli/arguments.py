"""Command lines, parsed by tyro into dataclasses."""

import contextlib
import dataclasses
import inspect
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, TypeVar, get_args

import tyro
from pydantic import BaseModel

from denoise_jax.config import Config
from denoise_jax.errors import UserError, nearest
from denoise_jax.named_configs import load_config
from denoise_jax.validation import validated

T = TypeVar("T")


def parse(arguments: type[T], argv: Sequence[str], command: str) -> T:
    """Parses `argv` into the dataclass `arguments`.

    Raises:
      UserError: an unknown flag (the message names similar ones), a missing argument or an invalid value.
      SystemExit: after --help was printed.
    """
    return _parse(arguments, argv, command, tyro.conf.FlagCreatePairsOff)


def parse_with_config(arguments: type[T], argv: Sequence[str], command: str) -> T:
    """Parses `argv`, the name of a configuration and flags, into the dataclass `arguments`.

    Every field of the configuration is a flag, which overrides it: `quickstart --model.dropout 0.2`. The
    result is validated and becomes the field `config` of `arguments`.

    Raises:
      ConfigError: no such configuration, or overrides that make it invalid.
      UserError: as in `parse`.
    """
    name = argv[0] if argv else "-"
    if name.startswith("-"):
        if not {"-h", "--help"} & set(argv):
            raise UserError(f"{command}: give the name of a configuration first: `{command} quickstart`")
        name = "quickstart"  # whose values the help shows
    overrides = _as_dataclass(load_config(name))
    marked = Annotated[overrides, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff]
    flags = marked, dataclasses.field(default_factory=overrides)
    with_flags = dataclasses.make_dataclass(
        arguments.__name__, [("config", *flags)], bases=(arguments,), frozen=True
    )
    with_flags.__doc__ = arguments.__doc__
    parsed = _parse(with_flags, argv, command, tyro.conf.FlagCreatePairsOff)
    config = validated(lambda: Config(**dataclasses.asdict(parsed.config)))
    return arguments(**{**vars(parsed), "config": config})


def _parse(arguments: type[T], argv: Sequence[str], command: str, marker) -> T:
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            parsed, unknown = tyro.cli(
                arguments,
                args=list(argv),
                prog=f"denoise-jax {command}",
                description=inspect.getdoc(arguments),
                config=(marker, tyro.conf.PositionalMetavarFromFieldName),
                return_unknown_args=True,
            )
    except SystemExit as exit:
        if exit.code:
            raise UserError(_one_line(printed.getvalue())) from None
        raise
    if unknown:
        flag = unknown[0].partition("=")[0].replace("_", "-")
        hint = nearest(flag, _flags(arguments), otherwise="see --help")
        raise UserError(f"{command}: unknown argument {unknown[0]}; {hint}")
    return parsed


def _one_line(box: str) -> str:
    """The title and the first section of a box printed by tyro; the others repeat the help text."""
    title, *lines = (re.sub("\x1b\\[[0-9;]*m|[\u2500-\u257f]", "", line).strip() for line in box.splitlines())
    return f"{title}: {' '.join(itertools.takewhile(bool, lines))}"


def _as_dataclass(section: BaseModel) -> type:
    """A dataclass with the fields, descriptions and current values of a section, but not its bounds.

    tyro reports what a pydantic model refuses in a box of its own; so it parses this, and we validate.
    """
    fields = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            flags = _as_dataclass(value)
            fields.append((name, flags, dataclasses.field(default_factory=flags)))
        else:
            annotation = Annotated[field.annotation, tyro.conf.arg(help=field.description)]
            fields.append((name, annotation, dataclasses.field(default=value)))
    made = dataclasses.make_dataclass(type(section).__name__, fields, frozen=True)
    made.__doc__ = type(section).__doc__
    return made


def _flags(arguments: type, prefix: str = "--") -> Iterator[str]:
    """The flags of a dataclass; those of a nested one start with its name: --model.dropout."""
    for field in dataclasses.fields(arguments):
        kind = next(iter(get_args(field.type)), field.type)  # without Annotated
        name = prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(kind):
            yield from _flags(kind, prefix if field.name == "config" else f"{name}.")
        elif field.type != tyro.conf.Positional[kind]:
            yield name


def check_utf8(name: str, text: str) -> None:
    """UserError, naming the argument, if `text` was not UTF-8: Python keeps its bytes as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = f"character {error.start + 1} is the byte 0x{ord(text[error.start]) & 0xFF:02x}"
        raise UserError(f"{name} is not UTF-8: {byte}; convert it first") from None
