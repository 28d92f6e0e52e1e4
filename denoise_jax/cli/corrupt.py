"""`denoise-jax corrupt`: original, corrupted text and target, coloured by what the noise did."""

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from denoise_jax.cli.arguments import parse
from denoise_jax.cli.terminal import quiet
from denoise_jax.errors import UserError

if TYPE_CHECKING:
    from denoise_jax.data.inspection import Seen

# Colours by operation; record.Op and record.TargetNoise give the numbers.
_INPUT_STYLES = {
    1: ("kept", ""),
    2: ("mask", "bold white on red"),
    3: ("mask for nothing", "bold white on magenta"),
    4: ("replaced", "black on yellow"),
    5: ("sentinel", "black on cyan"),
}
_MOVED = ("first token of a moved run", "black on green")
_TARGET_STYLES = {1: ("seen", ""), 2: ("hidden", "red underline"), 3: ("deleted", "red strike")}


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
    task_modules: Annotated[tuple[str, ...], tyro.conf.arg(metavar="MODULE")] = ("tasks",)
    """Modules that register tasks."""
    split: str = "train"
    """Split of the task."""
    examples: int = 3
    """Examples of the task to show."""
    length: int = 64
    """Longest piece of a document of the task, tokens."""
    seed: int = 0
    """Seed of the noise."""
    json: bool = False
    """Print JSON with the provenance of every token."""
    svg: str | None = None
    """Also write what is shown as a picture to this file."""


def main(argv: list[str]) -> int:
    """Prints one block for each example."""
    arguments = parse(CorruptArguments, argv, "corrupt")
    if (arguments.text is None) == (arguments.task is None):
        raise UserError("corrupt: give either a text or --task NAME, and not both")
    if arguments.task is not None and (arguments.corruption or arguments.vocabulary):
        raise UserError("corrupt: a task has its own --corruption and --vocabulary; give these with a text")
    if not 0 <= arguments.seed < 2**31:
        raise UserError(f"--seed {arguments.seed} is not between 0 and {2**31 - 1}")
    if arguments.examples < 1 or arguments.length < 8:
        raise UserError(
            f"--examples {arguments.examples} must be at least 1 and --length {arguments.length} at least 8"
        )
    with quiet():
        seen = _examples(arguments)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(example) for example in seen], indent=2, ensure_ascii=False))
        return 0
    from rich.console import Console

    console = Console(record=arguments.svg is not None, width=100 if arguments.svg else None)
    _legend(console, seen)
    for example in seen:
        _show(console, example)
    if arguments.svg:
        Path(arguments.svg).parent.mkdir(parents=True, exist_ok=True)
        console.save_svg(arguments.svg, title="denoise-jax corrupt", code_format=_svg_format())
    return 0


def _svg_format() -> str:
    """Rich's picture of a terminal without its web fonts: the file asks for nothing from the network."""
    from rich._export_format import CONSOLE_SVG_FORMAT

    return re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def _examples(arguments: CorruptArguments) -> "list[Seen]":
    from denoise_jax.data import inspection
    from denoise_jax.data.vocabulary import Vocabulary

    if arguments.task is None:
        vocabulary = Vocabulary(arguments.vocabulary) if arguments.vocabulary else None
        corruption = arguments.corruption or "bart_paper"
        return [inspection.from_text(arguments.text, corruption, vocabulary, arguments.seed)]
    return list(
        inspection.from_task(
            arguments.task,
            arguments.task_modules,
            arguments.split,
            length=arguments.length,
            count=arguments.examples,
            seed=arguments.seed,
        )
    )


def _legend(console, seen: "list[Seen]") -> None:
    from rich.text import Text

    used = {op for example in seen for op in example.inputs_op}
    styles = [_INPUT_STYLES[op] for op in sorted(used)] + [_MOVED]
    noises = {noise for example in seen for noise in example.targets_noise}
    styles += [_TARGET_STYLES[noise] for noise in sorted(noises)]
    entries = [Text(name, style) for name, style in styles if style]
    console.print(Text("  ").join(entries))


def _show(console, example: "Seen") -> None:
    from rich.text import Text

    hidden = sum(noise != 1 for noise in example.targets_noise)
    shown = {
        "original ": Text(_spaced("".join(example.targets))),
        "corrupted": _corrupted(example),
        "target   ": _coloured(
            example.targets, [_TARGET_STYLES[noise][1] for noise in example.targets_noise]
        ),
    }
    console.rule(
        f"{len(example.targets)} tokens → {len(example.inputs)}, {hidden} hidden", style="dim", align="left"
    )
    for name, text in shown.items():
        console.print(Text.assemble((f"{name}  ", "bold"), text))


def _corrupted(example: "Seen"):
    styles, previous = [], 0
    for op, source, span in zip(example.inputs_op, example.inputs_source, example.inputs_span, strict=True):
        moved = op == 1 and not previous <= source <= previous + 1
        styles.append(_MOVED[1] if moved else _INPUT_STYLES[op][1])
        previous = source + max(span - 2, 0) if op != 3 else previous
    return _coloured(example.inputs, styles)


def _coloured(pieces: list[str], styles: list[str]):
    """Pieces as running text; a space before a coloured piece stays uncoloured."""
    from rich.text import Text

    text = Text()
    for piece, style in zip(pieces, styles, strict=True):
        symbol = piece.startswith("<") and piece.endswith(">")
        if text and (piece.startswith("▁") or symbol):
            text.append(" ")
        text.append(_spaced(piece.removeprefix("▁")), style)
    return text


def _spaced(pieces: str) -> str:
    return pieces.replace("▁", " ").strip()
