"""`denoise-jax plan CONFIG --topology v5e:16x16 [overrides]`: a run planned without the hardware."""

import dataclasses
import json
import os
from typing import Annotated

import tyro

from denoise_jax.cli.arguments import parse_with_config
from denoise_jax.cli.terminal import quiet, report_export_problem
from denoise_jax.config import Config
from denoise_jax.errors import ConfigError, DataError
from denoise_jax.paths import to_path


@dataclasses.dataclass(frozen=True)
class PlanArguments:
    """Compiles the train step for TPUs that need not exist, and estimates memory, speed and cost."""

    configuration: tyro.conf.Positional[str]
    """A name in configs/, a dotted module with config(), or a config.json."""
    topology: str
    """TPU slice, such as v5e:16x16, v6e:4x8 or v5p:4x4x4."""
    config: Annotated[Config, tyro.conf.arg(name="")]
    slices: int = 1
    """Slices of that topology."""
    json: bool = False
    """Print everything that is known about the plan as JSON."""
    sweep: bool = False
    """Try microbatches, meshes, rematerialisation and scanning, and recommend the fastest that fits."""
    results: str = "plans.jsonl"
    """With --sweep: where results are kept; the same command again goes on from them."""
    measure_data: bool = False
    """Also measure how fast this machine's data pipeline is, and whether that is enough."""


def main(argv: list[str]) -> int:
    """Prints a plan; 0 if it fits, 1 if not."""
    arguments = parse_with_config(PlanArguments, argv, "plan")
    report_export_problem(arguments.config)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the TPUs are only described
    config = _with_vocab_size(arguments.config)
    rate = _data_rate(config) if arguments.measure_data else None
    with quiet():
        from denoise_jax.planning import report
        from denoise_jax.planning.plan import plan
    if arguments.sweep:
        return _sweep(arguments, config)
    made = plan(config, arguments.topology, slices=arguments.slices)
    print(json.dumps(dataclasses.asdict(made)) if arguments.json else report.describe(made, data_rate=rate))
    return 0 if made.fits else 1


def _sweep(arguments: PlanArguments, config: Config) -> int:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from denoise_jax.planning import report, sweep

    tried = sweep.candidates(config, arguments.topology, arguments.slices)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns) as progress:
        bar = progress.add_task("compiling", total=len(tried))

        def show(candidate: sweep.Candidate, made) -> None:
            speed = f"{made.step_seconds * 1e3:.1f} ms" if made.fits else "does not fit"
            progress.update(bar, completed=tried.index(candidate) + 1)
            progress.print(f"{candidate.label()}: {speed}")

        found = sweep.sweep(
            config, arguments.topology, to_path(arguments.results), slices=arguments.slices, report=show
        )
    best, made = found[0]
    if arguments.json:
        print(json.dumps([{**dataclasses.asdict(c), "plan": dataclasses.asdict(p)} for c, p in found]))
    else:
        print(report.table([p for _, p in found], [c.label() for c, _ in found]))
        chosen = best.config(config, made.chips)
        print(
            f"\nfastest that fits: {best.label()}; --model.remat {best.remat} "
            f"--model.scan-layers {best.scan_layers} --parallel.fsdp {best.fsdp} "
            f"--training.accumulation-steps {chosen.training.accumulation_steps}"
            if made.fits
            else "\nnothing fits: use more chips, or a larger fsdp"
        )
    return 0 if made.fits else 1


def _with_vocab_size(config: Config) -> Config:
    if config.model.vocab_size is not None:
        return config
    from denoise_jax.vocabulary.load import load_vocabulary

    try:
        return config.replace(model={"vocab_size": len(load_vocabulary(config.data.vocabulary))})
    except DataError as error:
        raise ConfigError(f"{error}; or give its size, such as --model.vocab-size 50265") from None


def _data_rate(config: Config) -> float:
    with quiet():
        from denoise_jax.data.throughput import tokens_per_second
        from denoise_jax.vocabulary.load import load_vocabulary
    return tokens_per_second(config.data, load_vocabulary(config.data.vocabulary))
