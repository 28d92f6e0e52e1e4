"""`denoise-jax checkpoints RUN`: lists the checkpoints of a run, and verifies them."""

import dataclasses
import json

import tyro

from denoise_jax.cli.arguments import parse
from denoise_jax.cli.terminal import quiet


@dataclasses.dataclass(frozen=True)
class CheckpointsArguments:
    """Lists the checkpoints of a run: step, size, date, and what a validation measured at that step."""

    run: tyro.conf.Positional[str]
    """Folder of a run."""
    verify: bool = False
    """Read every checkpoint and compare it with the fingerprints that were saved with it."""
    json: bool = False
    """Print JSON instead of a table."""


def main(argv: list[str]) -> int:
    """Prints a line for each checkpoint; 1 if one that was verified is damaged."""
    arguments = parse(CheckpointsArguments, argv, "checkpoints")
    with quiet():
        from denoise_jax.runs.list_runs import list_checkpoints
    found = [dataclasses.asdict(item) for item in list_checkpoints(arguments.run, verify=arguments.verify)]
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        _print(arguments.run, found)
    return int(any(checkpoint["verified"] is False for checkpoint in found))


def _print(run: str, found: list[dict]) -> None:
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    table = Table("step", "state", "size", "saved", "validation loss", "hidden accuracy", "verified")
    for item in found:
        measured = ("" if item[name] is None else f"{item[name]:.3f}" for name in ("loss", "hidden_accuracy"))
        verified = {None: "", True: "intact", False: "DAMAGED"}[item["verified"]]
        size, saved = decimal(item["bytes"]), item["saved"] or ""
        table.add_row(f"{item['step']:,}", item["state"], size, saved, *measured, verified)
    Console().print(table if found else f"no checkpoints in {run}", soft_wrap=not found)
