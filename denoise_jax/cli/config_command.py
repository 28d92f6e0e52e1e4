"""`denoise-jax config NAME [overrides]`: the resolved configuration as JSON."""

import dataclasses
from typing import Annotated

import tyro

from denoise_jax.cli.arguments import load_config, parse
from denoise_jax.config import Config


@dataclasses.dataclass(frozen=True)
class ConfigArguments:
    """Prints a configuration as JSON, after overrides such as --model.dropout 0.2."""

    name: tyro.conf.Positional[str]
    """A name in configs/, a dotted module with config(), or a config.json."""
    config: Annotated[Config, tyro.conf.arg(name="")]


def main(argv: list[str]) -> int:
    """Prints and returns 0."""
    print(resolve(ConfigArguments, argv, "config").config.model_dump_json(indent=2))
    return 0


def resolve(arguments, argv: list[str], command: str):
    """Parses a command line that begins with a configuration; its fields become the flags' defaults."""
    from denoise_jax.errors import UserError

    if not argv or argv[0].startswith("-"):
        if not {"-h", "--help"} & set(argv):
            raise UserError(
                f"denoise-jax {command} needs the name of a configuration first, as in `{command} quickstart`"
            )
        argv = ["quickstart", *argv]  # its defaults stand in the help
    default = arguments.__new__(arguments)
    for field in dataclasses.fields(arguments):
        value = load_config(argv[0]) if field.name == "config" else tyro.MISSING
        if field.name != "config" and field.default is not dataclasses.MISSING:
            value = field.default
        object.__setattr__(default, field.name, value)
    return parse(arguments, argv, command, default)
