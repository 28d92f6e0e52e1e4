"""`denoise-jax train CONFIG --workdir RUN [overrides]`: starts or resumes a run."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from denoise_jax.cli.arguments import parse_with_config
from denoise_jax.cli.terminal import quiet
from denoise_jax.config import Config


@dataclasses.dataclass(frozen=True)
class TrainArguments:
    """Trains a configuration in a folder; the same command again resumes it."""

    configuration: tyro.conf.Positional[str]
    """A name in configs/, a dotted module with config(), or a config.json."""
    workdir: str
    """Folder of the run."""
    config: Annotated[Config, tyro.conf.arg(name="")]


def main(argv: list[str]) -> int:
    """Trains; 0 also if asked to stop before the end, 1 if the loss is not finite."""
    arguments = parse_with_config(TrainArguments, argv, "train")
    with quiet():
        from denoise_jax.runs.resolve_run import resolve_run
    resolve_run(arguments.config, Path(arguments.workdir))  # reports most mistakes before TensorFlow loads
    with quiet():
        from denoise_jax.training.log_interval import NonFiniteLoss
        from denoise_jax.training.train import train
    try:
        train(arguments.config, arguments.workdir)
    except NonFiniteLoss as error:
        print(f"denoise-jax train: {error}", file=sys.stderr)
        return 1
    return 0
