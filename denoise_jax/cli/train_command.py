"""`denoise-jax train CONFIG --workdir RUN [overrides]`: starts or resumes a run."""

import dataclasses
import sys
from typing import Annotated

import tyro

from denoise_jax.cli.arguments import parse_with_config
from denoise_jax.cli.process_arguments import ProcessArguments
from denoise_jax.cli.terminal import quiet, report_export_problem
from denoise_jax.config import Config
from denoise_jax.paths import to_path


@dataclasses.dataclass(frozen=True)
class TrainArguments(ProcessArguments):
    """Trains a configuration in a folder; the same command again resumes it."""

    configuration: tyro.conf.Positional[str]
    """A name in configs/, a dotted module with config(), or a config.json."""
    workdir: str
    """Folder of the run."""
    config: Annotated[Config, tyro.conf.arg(name="")]
    profile: str | None = None
    """Trace steps for xprof, such as 100:105, into the folder `profile` of the run."""
    cache_dir: str | None = None
    """Where compiled programs are kept; default: .compilation_cache beside the run."""


def main(argv: list[str], command: str = "train") -> int:
    """Trains; 0 also if asked to stop before the end, 1 if the loss is not finite."""
    arguments = parse_with_config(TrainArguments, argv, command)
    report_export_problem(arguments.config)
    workdir = to_path(arguments.workdir)
    with quiet():
        from denoise_jax.parallel.memory import keep_freed_memory
    keep_freed_memory()
    arguments.connect()
    with quiet():
        from denoise_jax.parallel.processes import together
        from denoise_jax.runs.resolve_run import resolve_run
    together(lambda: resolve_run(arguments.config, workdir))  # reports most mistakes before TensorFlow loads
    with quiet():
        from denoise_jax.training.log_interval import NonFiniteLoss
        from denoise_jax.training.profile import parse_steps
        from denoise_jax.training.train import train
    try:
        profile = parse_steps(arguments.profile) if arguments.profile else None
        train(arguments.config, workdir, profile=profile, cache_dir=arguments.cache_dir)
    except NonFiniteLoss as error:
        print(f"denoise-jax {command}: {error}", file=sys.stderr)
        return 1
    return 0
