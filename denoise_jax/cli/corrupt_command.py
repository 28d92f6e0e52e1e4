"""`denoise-jax corrupt`: what noise does to texts, looked at, compared and measured."""

import dataclasses
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from denoise_jax.cli.arguments import check_utf8, parse
from denoise_jax.cli.terminal import quiet
from denoise_jax.control_characters import escape_controls
from denoise_jax.errors import DataError, UserError
from denoise_jax.files import write_atomically

if TYPE_CHECKING:
    from rich.console import Console

    from denoise_jax.inspection.examples import Seen, TextNoise

_UNCUT = 64  # times the length of the text: no noise makes it longer


@dataclasses.dataclass(frozen=True)
class CorruptArguments:
    """Shows the noise on a text, or on examples of a task."""

    text: tyro.conf.Positional[str | None] = None
    """Text to corrupt."""
    corruption: str | None = None
    """Preset to put on TEXT; default: bart_paper. A task has its own."""
    vocabulary: str | None = None
    """Vocabulary that cuts TEXT into tokens; default: its words are the tokens."""
    task: str | None = None
    """SeqIO task whose examples are shown."""
    list: bool = False
    """Print the name of every preset, and what it does."""
    compare: bool = False
    """Put every preset on the text, or on the texts of the task's examples."""
    stats: bool = False
    """Measure the noise of the task: rates, lengths of spans, what does not fit."""
    task_modules: Annotated[tuple[str, ...], tyro.conf.arg(metavar="MODULE")] = ("tasks",)
    """Modules that register tasks."""
    split: str = "train"
    """Split of the task."""
    examples: int | None = None
    """Examples of the task to show (default 3, with --compare 1), or to measure (1000)."""
    length: int | None = None
    """Longest piece of a document of the task, tokens, </s> included: default 64, with --stats 512."""
    input_length: int | None = None
    """With --stats: the encoder's row, in tokens, </s> included; default: twice --length."""
    seed: int = 0
    """Seed of the noise."""
    json: bool = False
    """Print JSON with the provenance of every token."""
    svg: str | None = None
    """Also write what is shown as a picture to this file."""
    html: str | None = None
    """Also write a page to this file on which a token shows where it came from."""


@dataclasses.dataclass(frozen=True)
class _Shown:
    """Examples under the name of their preset, "" where the task has its own."""

    corruption: str
    about: str
    examples: "tuple[Seen, ...]"


def main(argv: list[str]) -> int:
    """Prints a block for each example, a table of presets, or measurements."""
    arguments = parse(CorruptArguments, argv, "corrupt")
    _check(arguments)
    if arguments.list:
        return _list(arguments)
    if arguments.stats:
        return _measure(arguments)
    with quiet():
        shown, skipped = _compared(arguments) if arguments.compare else ([_chosen(arguments)], {})
    return _show(arguments, shown, skipped)


def _check(arguments: CorruptArguments) -> None:
    """UserError for flags that do not go together, or are out of bounds."""
    chosen = [f"--{name}" for name in ("list", "compare", "stats") if getattr(arguments, name)]
    if len(chosen) > 1:
        raise UserError(f"corrupt: {' and '.join(chosen)} do not go together; give one of them")
    if arguments.html and chosen and chosen != ["--compare"]:
        raise UserError(f"corrupt: {chosen[0]} has no text for --html to show; --svg draws what is printed")
    for flag, file in (("--svg", arguments.svg), ("--html", arguments.html)):
        if file is not None:
            _check_file(flag, Path(file))
    if arguments.list:
        return
    if arguments.stats and arguments.task is None:
        raise UserError("corrupt: --stats measures the noise of a task; give --task NAME")
    if (arguments.text is None) == (arguments.task is None):
        raise UserError("corrupt: give either a text or --task NAME, and not both")
    if arguments.text is not None:
        check_utf8("corrupt: TEXT", arguments.text)
    if arguments.compare and arguments.corruption:
        raise UserError("corrupt: --compare puts every preset on the text; leave out --corruption")
    if arguments.task is not None and (arguments.corruption or arguments.vocabulary):
        raise UserError("corrupt: a task has its own --corruption and --vocabulary; give these with a text")
    if not 0 <= arguments.seed < 2**31:
        raise UserError(f"--seed {arguments.seed} is not between 0 and {2**31 - 1}")
    for name, least in (("examples", 1), ("length", 8), ("input_length", 8)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} {value} must be at least {least}")
    if arguments.input_length is not None and not arguments.stats:
        raise UserError("corrupt: --input-length is for --stats; examples are shown whole")


def _check_file(flag: str, file: Path) -> None:
    """UserError if `file` could not be written; its folders need not be there yet."""
    if file.is_dir():
        raise UserError(f"{flag} {file} is a folder; name a file")
    there = next(folder for folder in file.absolute().parents if folder.exists())
    if not there.is_dir():
        raise UserError(f"{flag} {file} cannot be written: {there} is a file, not a folder")
    if not os.access(there, os.W_OK):
        raise UserError(f"{flag} {file} cannot be written: no permission in {there}")


def _chosen(arguments: CorruptArguments) -> _Shown:
    """The text under one preset, or examples of the task under its own noise."""
    from denoise_jax.inspection import examples

    if arguments.task is not None:
        return _Shown("", "", tuple(_of_task(arguments, 3)))
    from denoise_jax.corruption.presets import PRESETS

    name = arguments.corruption or "bart_paper"
    seen = examples.TextNoise(arguments.text, _vocabulary(arguments)).under(name, arguments.seed)
    return _Shown(name, PRESETS[name].documentation, (seen,))


def _compared(arguments: CorruptArguments) -> tuple[list[_Shown], dict[str, str]]:
    """Texts under every preset; and the presets that cannot be built, with the reason."""
    from denoise_jax.corruption.presets import PRESETS

    texts = _texts(arguments)
    shown, skipped = [], {}
    for name, preset in PRESETS.items():
        try:
            examples = tuple(text.under(name, arguments.seed) for text in texts)
        except DataError as error:
            skipped[name] = str(error).removeprefix(f"--corruption {name}: ")
        else:
            shown.append(_Shown(name, preset.documentation, examples))
    return shown, skipped


def _texts(arguments: CorruptArguments) -> "list[TextNoise]":
    from denoise_jax.data import registry
    from denoise_jax.inspection import examples

    if arguments.task is None:
        return [examples.TextNoise(arguments.text, _vocabulary(arguments))]
    task = registry.find_task(arguments.task, arguments.task_modules)
    vocabulary = examples.vocabulary_of(task)
    clean = [vocabulary.decode_pieces(seen.text) for seen in _of_task(arguments, 1)]
    return [examples.TextNoise(text, vocabulary) for text in clean]


def _of_task(arguments: CorruptArguments, count: int) -> "list[Seen]":
    from denoise_jax.inspection import examples

    seen = examples.from_task(
        arguments.task,
        arguments.task_modules,
        arguments.split,
        length=arguments.length or 64,
        count=arguments.examples or count,
        seed=arguments.seed,
    )
    return list(seen)


def _vocabulary(arguments: CorruptArguments):
    from denoise_jax.vocabulary.load import load_vocabulary

    return load_vocabulary(arguments.vocabulary) if arguments.vocabulary else None


def _show(arguments: CorruptArguments, shown: Sequence[_Shown], skipped: Mapping[str, str]) -> int:
    """Prints the examples, and writes the page that was asked for."""
    examples = [seen for one in shown for seen in one.examples]
    if arguments.html:
        from denoise_jax.inspection import html_page

        title = f"Noise on {f'task {arguments.task}' if arguments.task else 'a text'}, seed {arguments.seed}"
        blocks = [
            html_page.Block(one.corruption or f"{arguments.task}, {arguments.split}", one.about, one.examples)
            for one in shown
        ]
        write_atomically(Path(arguments.html), html_page.render(title, blocks, skipped))

    def draw(console: "Console") -> None:
        terminal_view.legend(console, examples)
        for one in shown:
            for seen in one.examples:
                terminal_view.example(console, seen, one.corruption)
        terminal_view.skipped(console, skipped)

    from denoise_jax.inspection import terminal_view

    plain = {one.corruption: [dataclasses.asdict(seen) for seen in one.examples] for one in shown}
    found = {"presets": plain, "skipped": skipped} if arguments.compare else next(iter(plain.values()))
    return _print(arguments, found, draw)


def _list(arguments: CorruptArguments) -> int:
    """Prints what every preset does."""
    with quiet():
        from denoise_jax.corruption.presets import PRESETS
        from denoise_jax.inspection import terminal_view
    documentation = {name: preset.documentation for name, preset in PRESETS.items()}
    return _print(arguments, documentation, lambda console: terminal_view.presets(console, documentation))


def _measure(arguments: CorruptArguments) -> int:
    """Prints what the noise of a task does to many examples."""
    from rich.console import Console
    from rich.progress import track

    length, count = arguments.length or 512, arguments.examples or 1000
    input_length = arguments.input_length or 2 * length
    with quiet():
        from denoise_jax.data import registry
        from denoise_jax.data.preprocessors import Reading
        from denoise_jax.inspection import terminal_view
        from denoise_jax.inspection.statistics import NoiseStatistics

        examples = registry.open_shard(
            registry.find_task(arguments.task, arguments.task_modules),
            arguments.split,
            # Nothing is cut off: how much would be is counted, and the noise does not depend on it.
            lengths={"inputs": _UNCUT * length, "targets": length},
            num_shards=1,
            seed=arguments.seed,
            training=False,
            how=Reading(with_text=True),
        ).take(count)
    if "inputs_op" not in examples.element_spec:
        raise DataError(f"task {arguments.task!r} has no noise to measure: its examples lack `inputs_op`")
    measured = NoiseStatistics(input_length)
    terminal = Console(stderr=True)
    how = {"total": count, "console": terminal, "disable": not terminal.is_terminal, "transient": True}
    for example in track(examples.as_numpy_iterator(), "measuring", **how):
        measured.add(example)
    found = {
        "task": arguments.task,
        "split": arguments.split,
        "length": length,
        "input_length": input_length,
        "seed": arguments.seed,
        **measured.summary(),
    }
    title = f"{arguments.task}, {arguments.split}, texts of {length} tokens, encoder rows of {input_length}"
    return _print(arguments, found, lambda console: terminal_view.statistics(console, found, title))


def _print(arguments: CorruptArguments, found, draw: "Callable[[Console], None]") -> int:
    """Prints `found` as JSON, or what `draw` draws on a console; and writes the latter as a picture."""
    if arguments.json:
        print(escape_controls(json.dumps(found, indent=2, ensure_ascii=False)))
    if arguments.json and not arguments.svg:
        return 0
    from rich.console import Console

    from denoise_jax.inspection import terminal_view

    recorded = {"record": True, "width": 100} if arguments.svg else {}
    console = Console(**recorded, file=io.StringIO() if arguments.json else None)
    draw(console)
    if arguments.svg:
        write_atomically(Path(arguments.svg), terminal_view.picture(console))
    return 0
