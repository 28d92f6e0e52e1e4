"""`denoise-jax evaluate RUN`: measures a checkpoint on a split with fixed noise."""

import dataclasses
import json
from pathlib import Path

import tyro

from denoise_jax.cli.arguments import parse
from denoise_jax.cli.terminal import quiet
from denoise_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class EvaluateArguments:
    """Loss, perplexity and accuracy of a checkpoint, apart for visible and hidden tokens."""

    run: tyro.conf.Positional[str]
    """Folder of a run, or of one checkpoint."""
    split: str | None = None
    """Split to measure; default: evaluation.split of the run."""
    step: int | None = None
    """Checkpoint to measure; default: the newest."""
    max_batches: int | None = None
    """Batches to measure; default: the whole split."""
    json: bool = False
    """Print JSON instead of a table."""


def main(argv: list[str]) -> int:
    """Measures, writes RUN/eval/<step>.json, and prints."""
    arguments = parse(EvaluateArguments, argv, "evaluate")
    if arguments.max_batches is not None and arguments.max_batches < 1:
        raise UserError(f"--max-batches {arguments.max_batches} must be at least 1")
    with quiet():
        from denoise_jax.evaluation.evaluate import Evaluator
        from denoise_jax.evaluation.load import load_model
        from denoise_jax.training import run_folder

    from rich.console import Console

    model = load_model(arguments.run, arguments.step)
    split = arguments.split or model.config.evaluation.split
    evaluator = Evaluator(model.config, model.vocabulary, model.mesh)
    result = {"step": model.step, **evaluator.measure(model.params, split, arguments.max_batches)}
    text = json.dumps(result, indent=2)
    written = ""
    if (Path(arguments.run) / run_folder.CONFIG).exists() and arguments.max_batches is None:
        name = (
            f"{model.step}.json" if split == model.config.evaluation.split else f"{model.step}-{split}.json"
        )
        file = Path(arguments.run) / run_folder.EVAL / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text + "\n")
        written = f"written to {file}"
    if arguments.json:
        print(text)
    else:
        console = Console()
        console.print(
            f"{model.config.name}, step {result['step']}, split {result['split']}: "
            f"loss {result['loss']:.3f}, perplexity {result['perplexity']:.2f}",
            highlight=False,
            soft_wrap=True,
        )
        console.print(_table(result))
        console.print(written, highlight=False, soft_wrap=True)
    return 0


def _table(result: dict):
    from rich.table import Table

    table = Table("tokens", "count", "loss", "accuracy")
    for kind in ("visible", "hidden"):
        values = result[kind]
        table.add_row(kind, f"{values['tokens']:,}", f"{values['loss']:.3f}", f"{values['accuracy']:.3f}")
    table.add_row("hidden, most frequent token", "", "", f"{result['baseline_accuracy']:.3f}")
    return table
