"""`denoise-jax evaluate RUN`: measures a checkpoint on a split with fixed noise, or by its predictions."""

import dataclasses
import json
from typing import Annotated

import tyro

from denoise_jax.cli.arguments import parse
from denoise_jax.cli.process_arguments import ProcessArguments
from denoise_jax.cli.terminal import counter, quiet
from denoise_jax.errors import UserError
from denoise_jax.paths import to_path


@dataclasses.dataclass(frozen=True)
class EvaluateArguments(ProcessArguments):
    """Loss, perplexity and accuracy of a checkpoint, for each kind of token that the noise makes.

    With --predict: the task's own metrics on the text that the checkpoint generates, or on its classes.
    """

    run: tyro.conf.Positional[str]
    """Run or checkpoint folder."""
    split: str | None = None
    """Split to measure; default: evaluation.split of the run."""
    step: int | None = None
    """Checkpoint to measure; default: the newest."""
    task: str | None = None
    """SeqIO task to measure on, with the vocabulary of the run; default: the run's own."""
    task_modules: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="MODULE")] = None
    """Modules that register tasks; default: data.task_modules of the run."""
    max_batches: int | None = None
    """Batches to measure; default: the complete split."""
    predict: bool = False
    """Generate text with the run's generation settings, and compute the task's metrics on it."""
    max_examples: int | None = None
    """With --predict: examples to predict; default: the complete split."""
    json: bool = False
    """Print JSON instead of a table."""


def main(argv: list[str]) -> int:
    """Measures and prints; results of complete splits are also written to RUN/eval/."""
    arguments = parse(EvaluateArguments, argv, "evaluate")
    _check(arguments)
    arguments.connect()
    with quiet():
        from denoise_jax.parallel.processes import is_first, together
        from denoise_jax.runs.load_model import open_checkpoint
    # A mistyped folder is reported before TensorFlow loads.
    together(lambda: open_checkpoint(arguments.run, arguments.step))
    with quiet():
        from denoise_jax.evaluation.evaluate import evaluate
        from denoise_jax.evaluation.predict import predict
    chosen = {name: getattr(arguments, name) for name in ("split", "step", "task", "task_modules")}
    if arguments.predict:
        with counter("examples") as advance:
            limit = arguments.max_examples
            _, result = predict(arguments.run, **chosen, max_examples=limit, progress=advance)
    else:
        result = evaluate(arguments.run, **chosen, max_batches=arguments.max_batches)
    if not is_first():
        return 0
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        _print(arguments, result)
    return 0


def _check(arguments: EvaluateArguments) -> None:
    for flag, value in (("--max-batches", arguments.max_batches), ("--max-examples", arguments.max_examples)):
        if value is not None and value < 1:
            raise UserError(f"{flag} {value} must be at least 1")
    if arguments.predict and arguments.max_batches is not None:
        raise UserError("--max-batches does not go with --predict; give --max-examples")
    if arguments.max_examples is not None and not arguments.predict:
        raise UserError("--max-examples goes with --predict; without it, give --max-batches")


def _print(arguments: EvaluateArguments, result: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    from denoise_jax.evaluation.metrics import describe, metrics_in
    from denoise_jax.runs.run_folder import CHECKPOINTS, EVAL

    def say(line: object) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    console = Console()
    run = to_path(arguments.run)
    where = f"{run}, step {result['step']}, split {result['split']}"
    if arguments.predict:
        values = ", ".join(
            f"{name} {value:.3f}" for name, value in result.items() if isinstance(value, float)
        )
        say(f"{where}, task {result['task']}, {result['examples']:,} examples: {values}")
    else:
        say(f"{where}: {describe(result)}")
        metrics = metrics_in(result)
        if rows := [row for metric in metrics for row in metric.table_rows(result)]:
            table = Table("tokens", "count", "loss", "accuracy")
            for row in rows:
                table.add_row(*row)
            console.print(table)
        for note in filter(None, (metric.note(result) for metric in metrics)):
            say(note)
    if arguments.max_batches is None and (run / CHECKPOINTS).is_dir():
        say(f"written to {run / EVAL}")
