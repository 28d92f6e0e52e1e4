"""`denoise-jax evaluate RUN`: measures a checkpoint on a split with fixed noise, or by what it predicts."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from denoise_jax.cli.arguments import parse
from denoise_jax.cli.terminal import counter, quiet
from denoise_jax.errors import ConfigError, UserError
from denoise_jax.files import write_atomically

if TYPE_CHECKING:
    from denoise_jax.runs.load_model import LoadedModel

# How the table tells the kinds of each group.
_GROUPS = {
    "visible": {"in_place": "in place", "moved": "moved", "beside_insertion": "beside an insertion"},
    "hidden": {"masked": "masked", "replaced": "replaced", "deleted": "deleted"},
}


@dataclasses.dataclass(frozen=True)
class EvaluateArguments:
    """Loss, perplexity and accuracy of a checkpoint, apart for each kind of token that the noise makes.

    With --predict: the task's own metrics of what the checkpoint writes, or of the classes that it tells.
    """

    run: tyro.conf.Positional[str]
    """Folder of a run, or of one checkpoint."""
    split: str | None = None
    """Split to measure; default: evaluation.split of the run."""
    step: int | None = None
    """Checkpoint to measure; default: the newest."""
    task: str | None = None
    """SeqIO task to measure on, with the vocabulary of the run; default: the run's own."""
    task_modules: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="MODULE")] = None
    """Modules that register tasks; default: data.task_modules of the run."""
    max_batches: int | None = None
    """Batches to measure; default: the whole split."""
    predict: bool = False
    """Decode as `generation` of the run says, and put the task's metrics on it."""
    max_examples: int | None = None
    """With --predict: examples to decode; default: the whole split."""
    json: bool = False
    """Print JSON instead of a table."""


def main(argv: list[str]) -> int:
    """Measures, writes RUN/eval/<step>.json or <step>-predictions.json and .jsonl, and prints."""
    arguments = parse(EvaluateArguments, argv, "evaluate")
    _check(arguments)
    with quiet():
        from denoise_jax.runs.load_model import load_model

    model = _on_task(load_model(arguments.run, arguments.step), arguments)
    split = arguments.split or model.config.evaluation.split
    return _predict(model, split, arguments) if arguments.predict else _measure(model, split, arguments)


def _check(arguments: EvaluateArguments) -> None:
    for flag, value in (("--max-batches", arguments.max_batches), ("--max-examples", arguments.max_examples)):
        if value is not None and value < 1:
            raise UserError(f"{flag} {value} must be at least 1")
    if arguments.predict and arguments.max_batches is not None:
        raise UserError("--max-batches counts no predictions; give --max-examples")
    if arguments.max_examples is not None and not arguments.predict:
        raise UserError("--max-examples goes with --predict; without it, give --max-batches")


def _on_task(model: "LoadedModel", arguments: EvaluateArguments) -> "LoadedModel":
    """The model with the task that is asked for in its configuration."""
    with quiet():
        from denoise_jax.data import registry
        from denoise_jax.data.finetuning import check_classes

    own = model.config.data
    task, modules = arguments.task or own.task, arguments.task_modules or own.task_modules
    if task is None:
        raise ConfigError(f"{arguments.run} holds imported weights, which have no task; give --task NAME")
    check_classes(registry.find_task(task, modules), model.config.model.num_classes)
    data = own.model_copy(update={"task": task, "task_modules": modules})
    return dataclasses.replace(model, config=model.config.model_copy(update={"data": data}))


def _measure(model: "LoadedModel", split: str, arguments: EvaluateArguments) -> int:
    from rich.console import Console

    with quiet():
        from denoise_jax.evaluation.evaluate import Evaluator

    evaluator = Evaluator(model.config, model.vocabulary, model.mesh)
    result = {"step": model.step, **evaluator.measure(model.params, split, arguments.max_batches)}
    text = json.dumps(result, indent=2)
    written = ""
    if arguments.max_batches is None and (file := _file(model, split, arguments, ".json")):
        file.write_text(text + "\n")
        written = f"written to {file}"
    if arguments.json:
        print(text)
        return 0
    console = Console()
    told = f"{model.config.name}, step {result['step']}, split {result['split']}: loss {result['loss']:.3f}, "
    if "examples" in result:
        told += (
            f"accuracy {result['accuracy']:.3f} of {result['examples']:,} examples "
            f"(most frequent class {result['baseline_accuracy']:.3f})"
        )
        console.print(told, highlight=False, soft_wrap=True)
    else:
        told += f"perplexity {result['perplexity']:.2f}"
        console.print(told, highlight=False, soft_wrap=True)
        console.print(_table(result))
        if result["span_length"]["spans"]:
            console.print(_span_lengths(result["span_length"]), highlight=False, soft_wrap=True)
    console.print(written, highlight=False, soft_wrap=True)
    return 0


def _predict(model: "LoadedModel", split: str, arguments: EvaluateArguments) -> int:
    from rich.console import Console

    with quiet():
        from denoise_jax.evaluation.predict import predict

    with counter("examples") as advance:
        predictions, metrics = predict(model, split, max_examples=arguments.max_examples, progress=advance)
    result = {
        "step": model.step,
        "task": model.config.data.task,
        "split": split,
        "examples": len(predictions),
        **metrics,
    }
    text = json.dumps(result, indent=2)
    lines = [json.dumps(dataclasses.asdict(p), ensure_ascii=False) for p in predictions]
    written = ""
    part = f"-first-{arguments.max_examples}" if arguments.max_examples else ""
    if file := _file(model, split, arguments, f"{part}-predictions.jsonl"):
        write_atomically(file, "".join(line + "\n" for line in lines))
        written = f"predictions written to {file}"
        if arguments.max_examples is None:
            file.with_suffix(".json").write_text(text + "\n")
    if arguments.json:
        print(text)
        return 0
    console = Console()
    told = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
    console.print(
        f"{model.config.name}, step {model.step}, task {result['task']}, split {split}, "
        f"{len(predictions):,} examples: {told}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(written, highlight=False, soft_wrap=True)
    return 0


def _file(model: "LoadedModel", split: str, arguments: EvaluateArguments, end: str) -> Path | None:
    """RUN/eval/<step>[-<task>][-<split>]<end>, in a folder that is there; None for a checkpoint alone."""
    from denoise_jax.runs import run_folder

    run = Path(arguments.run)
    if not (run / run_folder.CONFIG).exists():
        return None
    own_split = model.config.evaluation.split
    parts = [str(model.step), arguments.task, None if split == own_split else split]
    file = run / run_folder.EVAL / ("-".join(filter(None, parts)) + end)
    file.parent.mkdir(exist_ok=True)
    return file


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
