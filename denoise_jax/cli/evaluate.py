"""`denoise-jax evaluate RUN`: measures a checkpoint on a split with fixed noise."""

import dataclasses
import json
from pathlib import Path

import tyro

from denoise_jax.cli.arguments import parse
from denoise_jax.cli.terminal import quiet
from denoise_jax.errors import UserError

# How the table tells the kinds of each group.
_GROUPS = {
    "visible": {"visible": "in place", "moved": "moved", "inserted_around": "beside an insertion"},
    "hidden": {"masked": "masked", "replaced": "replaced", "deleted": "deleted"},
}


@dataclasses.dataclass(frozen=True)
class EvaluateArguments:
    """Loss, perplexity and accuracy of a checkpoint, apart for each kind of token that the noise makes."""

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
        if result["span_length"]["spans"]:
            console.print(_span_lengths(result["span_length"]), highlight=False, soft_wrap=True)
        console.print(written, highlight=False, soft_wrap=True)
    return 0


def _table(result: dict):
    from rich.table import Table

    table = Table("tokens", "count", "loss", "accuracy")
    for group, kinds in _GROUPS.items():
        rows = {group: result[group]} | {f"  {told}": result["kinds"][kind] for kind, told in kinds.items()}
        for name, values in rows.items():
            if name == group or values["tokens"]:
                numbers = f"{values['tokens']:,}", f"{values['loss']:.3f}", f"{values['accuracy']:.3f}"
                table.add_row(name, *numbers)
    table.add_row("hidden, most frequent token", "", "", f"{result['baseline_accuracy']:.3f}")
    return table


def _span_lengths(lengths: dict) -> str:
    return (
        f"length of {lengths['spans']:,} masked spans: {lengths['exact']:.1%} exact, "
        f"{lengths['too_short']:.1%} too short, {lengths['too_long']:.1%} too long, "
        f"mean error {lengths['mean_error']:+.2f} tokens ({lengths['mean_absolute_error']:.2f} absolute)"
    )
