"""`denoise-jax corrupt`: shows, compares and measures noise."""

import dataclasses
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from denoise_jax.cli.arguments import check_utf8, parse
from denoise_jax.cli.terminal import counter, quiet
from denoise_jax.control_characters import escape_controls
from denoise_jax.errors import UserError
from denoise_jax.files import write_atomically
from denoise_jax.paths import is_remote, to_path

if TYPE_CHECKING:
    from rich.console import Console

    from denoise_jax.inspection.comparison import Comparison


@dataclasses.dataclass(frozen=True)
class CorruptArguments:
    """Shows the noise on a text, or on examples of a task."""

    text: tyro.conf.Positional[str | None] = None
    """Text to corrupt."""
    corruption: str | None = None
    """Preset for TEXT (default: bart_paper). A task has its own noise."""
    vocabulary: str | None = None
    """Vocabulary that tokenizes TEXT; by default words are the tokens."""
    task: str | None = None
    """SeqIO task whose examples are shown."""
    list: bool = False
    """List the presets and what they do."""
    compare: bool = False
    """Apply every preset to the text, or to the texts of the task's examples."""
    stats: bool = False
    """Measure the noise of the task: rates, span lengths, truncation."""
    task_modules: Annotated[tuple[str, ...], tyro.conf.arg(metavar="MODULE")] = ("tasks",)
    """Modules that register tasks."""
    split: str = "train"
    """Split of the task."""
    examples: int | None = None
    """Number of examples to show (default: 3, with --compare 1) or to measure (1000)."""
    length: int | None = None
    """Maximum chunk length in tokens, </s> included (default: 64, with --stats 512)."""
    input_length: int | None = None
    """With --stats: length of the encoder's rows in tokens, </s> included (default: twice --length)."""
    seed: int = 0
    """Seed of the noise."""
    json: bool = False
    """Print JSON with the provenance of every token."""
    svg: str | None = None
    """Also write the output as a picture to this file."""
    html: str | None = None
    """Also write an HTML page to this file that shows where each token came from."""


def main(argv: list[str]) -> int:
    """Prints examples, a table of presets, or statistics."""
    arguments = parse(CorruptArguments, argv, "corrupt")
    _check(arguments)
    if arguments.list:
        return _list(arguments)
    if arguments.stats:
        return _measure(arguments)
    return _show(arguments)


def _check(arguments: CorruptArguments) -> None:
    """UserError if flags contradict each other or are out of bounds."""
    chosen = [f"--{name}" for name in ("list", "compare", "stats") if getattr(arguments, name)]
    if len(chosen) > 1:
        raise UserError(f"corrupt: {' and '.join(chosen)} cannot be combined; give one of them")
    if arguments.html and chosen and chosen != ["--compare"]:
        raise UserError(f"corrupt: {chosen[0]} has no text for --html to show; --svg draws its output")
    for flag, file in (("--svg", arguments.svg), ("--html", arguments.html)):
        if file is not None:
            _check_file(flag, to_path(file))
    if arguments.list:
        return
    if arguments.stats and arguments.task is None:
        raise UserError("corrupt: --stats measures the noise of a task; give --task NAME")
    if (arguments.text is None) == (arguments.task is None):
        raise UserError("corrupt: give either a text or --task NAME, and not both")
    if arguments.text is not None:
        check_utf8("corrupt: TEXT", arguments.text)
    if arguments.compare and arguments.corruption:
        raise UserError("corrupt: --compare applies every preset; leave out --corruption")
    if arguments.task is not None and (arguments.corruption or arguments.vocabulary):
        raise UserError("corrupt: a task has its own --corruption and --vocabulary; give them with a text")
    if not 0 <= arguments.seed < 2**31:
        raise UserError(f"--seed {arguments.seed} is not between 0 and {2**31 - 1}")
    for name, least in (("examples", 1), ("length", 8), ("input_length", 8)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} {value} must be at least {least}")
    if arguments.input_length is not None and not arguments.stats:
        raise UserError("corrupt: --input-length is for --stats; examples are shown without truncation")


def _check_file(flag: str, file: Path) -> None:
    """UserError if `file` cannot be written. Its folders need not exist yet."""
    if is_remote(file):
        return
    if file.is_dir():
        raise UserError(f"{flag} {file} is a folder; name a file")
    parent = next(folder for folder in file.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise UserError(f"{flag} {file} cannot be written: {parent} is a file, not a folder")
    if not os.access(parent, os.W_OK):
        raise UserError(f"{flag} {file} cannot be written: no permission in {parent}")


def _show(arguments: CorruptArguments) -> int:
    """Prints examples, and writes the page."""
    with quiet():
        from denoise_jax.corruption.presets import PRESETS
        from denoise_jax.inspection import html_page, terminal_view

        shown, skipped = _compare(arguments) if arguments.compare else (_examples(arguments), {})
    if arguments.html:
        title = f"Noise on {f'task {arguments.task}' if arguments.task else 'a text'}, seed {arguments.seed}"
        blocks = [
            html_page.Block(name, PRESETS[name].documentation, examples)
            if name
            else html_page.Block(f"{arguments.task}, {arguments.split}", "", examples)
            for name, examples in shown.items()
        ]
        write_atomically(to_path(arguments.html), html_page.render(title, blocks, skipped))

    def draw(console: "Console") -> None:
        terminal_view.legend(console, [example for examples in shown.values() for example in examples])
        for name, examples in shown.items():
            for example in examples:
                terminal_view.example(console, example, name)
        terminal_view.skipped(console, skipped)

    plain = {name: [dataclasses.asdict(example) for example in examples] for name, examples in shown.items()}
    found = {"presets": plain, "skipped": skipped} if arguments.compare else next(iter(plain.values()))
    return _print(arguments, found, draw)


def _examples(arguments: CorruptArguments) -> dict:
    """Examples by preset: of the text, or under "" of the task with its own noise."""
    from denoise_jax.inspection.examples import corrupt, read_examples

    if arguments.task is not None:
        return {"": read_examples(arguments.task, **_task_options(arguments))}
    name = arguments.corruption or "bart_paper"
    return {name: [corrupt(arguments.text, name, vocabulary=arguments.vocabulary, seed=arguments.seed)]}


def _compare(arguments: CorruptArguments) -> "Comparison":
    from denoise_jax.inspection.comparison import compare_presets, compare_presets_on_task

    if arguments.task is not None:
        return compare_presets_on_task(arguments.task, **_task_options(arguments))
    return compare_presets([arguments.text], vocabulary=arguments.vocabulary, seed=arguments.seed)


def _task_options(arguments: CorruptArguments) -> dict:
    """Arguments shared by the functions that read a task; absent flags leave the defaults to them."""
    options = {
        "split": arguments.split,
        "task_modules": arguments.task_modules,
        "max_examples": arguments.examples,
        "length": arguments.length,
        "seed": arguments.seed,
    }
    return {name: value for name, value in options.items() if value is not None}


def _list(arguments: CorruptArguments) -> int:
    """Prints what every preset does."""
    with quiet():
        from denoise_jax.corruption.presets import PRESETS
        from denoise_jax.inspection import terminal_view
    documentation = {name: preset.documentation for name, preset in PRESETS.items()}
    return _print(arguments, documentation, lambda console: terminal_view.presets(console, documentation))


def _measure(arguments: CorruptArguments) -> int:
    """Prints statistics of the noise of a task."""
    with quiet():
        from denoise_jax.inspection import terminal_view
        from denoise_jax.inspection.statistics import measure_noise
    with counter("measuring") as advance:
        options = _task_options(arguments)
        found = measure_noise(
            arguments.task, **options, input_length=arguments.input_length, progress=advance
        )
    title = (
        f"{found['task']}, {found['split']}, texts of {found['length']} tokens, "
        f"encoder rows of {found['input_length']}"
    )
    return _print(arguments, found, lambda console: terminal_view.statistics(console, found, title))


def _print(arguments: CorruptArguments, found, draw: "Callable[[Console], None]") -> int:
    """Prints `found` as JSON, or calls `draw` on a console; and writes the drawing as a picture."""
    if arguments.json:
        print(escape_controls(json.dumps(found, indent=2, ensure_ascii=False)))
        if not arguments.svg:
            return 0
    from rich.console import Console

    from denoise_jax.inspection import terminal_view

    recorded = {"record": True, "width": 100} if arguments.svg else {}
    console = Console(**recorded, file=io.StringIO() if arguments.json else None)
    draw(console)
    if arguments.svg:
        write_atomically(to_path(arguments.svg), terminal_view.picture(console))
    return 0
