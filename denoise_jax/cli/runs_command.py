"""`denoise-jax runs FOLDER`: lists runs."""

import dataclasses
import json

import tyro

from denoise_jax.cli.arguments import parse
from denoise_jax.cli.terminal import quiet


@dataclasses.dataclass(frozen=True)
class RunsArguments:
    """Lists the runs in a folder: name, state, step, last loss, and when they were last written."""

    folder: tyro.conf.Positional[str] = "runs"
    """A folder with runs in it, or a run."""
    json: bool = False
    """Print JSON instead of a table."""


def main(argv: list[str]) -> int:
    """Prints a line for each run."""
    arguments = parse(RunsArguments, argv, "runs")
    with quiet():
        from denoise_jax.runs.list_runs import list_runs
    found = [dataclasses.asdict(run) for run in list_runs(arguments.folder)]
    if arguments.json:
        print(json.dumps(found, indent=2))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table("run", "name", "state", "step", "of", "loss", "updated")
    for run in found:
        loss = "" if run["loss"] is None else f"{run['loss']:.3f}"
        steps = ("" if run[field] is None else f"{run[field]:,}" for field in ("step", "num_steps"))
        table.add_row(run["run"], run["name"], run["state"], *steps, loss, run["updated"] or "")
    Console().print(table if found else f"no runs in {arguments.folder}", soft_wrap=not found)
    return 0
