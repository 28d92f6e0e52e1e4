"""`denoise-jax config NAME [overrides]`: prints the resolved configuration as JSON."""

import dataclasses
from typing import Annotated

import tyro

from denoise_jax.cli.arguments import parse_with_config
from denoise_jax.cli.terminal import report_export_problem
from denoise_jax.config import Config


@dataclasses.dataclass(frozen=True)
class ConfigArguments:
    """Prints a configuration as JSON, after overrides such as --model.dropout 0.2."""

    configuration: tyro.conf.Positional[str]
    """A name in configs/, a dotted module with config(), or a config.json."""
    config: Annotated[Config, tyro.conf.arg(name="")]


def main(argv: list[str]) -> int:
    """Prints and returns 0. What the configuration rules out later is said on stderr."""
    config = parse_with_config(ConfigArguments, argv, "config").config
    print(config.model_dump_json(indent=2))
    report_export_problem(config)
    return 0
