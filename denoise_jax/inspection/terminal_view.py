"""Noise in a terminal: examples in colour, statistics as tables and bars."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from denoise_jax.inspection import token_views

if TYPE_CHECKING:
    from denoise_jax.inspection.examples import NoisedExample

# A style for each of token_views.LOOKS.
_STYLES = {
    "kept": "",
    "moved": "black on green",
    "mask": "bold white on red",
    "inserted": "bold white on magenta",
    "replaced": "black on yellow",
    "sentinel": "black on cyan",
    "visible": "",
    "covered": "red underline",
    "deleted": "bright_black strike",
}
_SIDES = {"inputs": "corrupted", "text": "text     ", "targets": "target   "}
_MEASURES = {
    "hidden": "of the text: not visible, the sum of these three",
    "  masked": "of the text: covered by a mask or sentinel",
    "  replaced": "of the text: covered by a random token",
    "  deleted": "of the text: nothing takes its place",
    "inserted": "relative to the text: corresponds to nothing",
    "moved": "of the text: follows another token",
    "truncated": "of the examples: longer than the encoder's rows",
    "lost": "of the corrupted tokens: truncated with them",
}
_SINGLE_LENGTHS = 16  # longer spans share bars
_BAR = 40


def legend(console: Console, examples: "Iterable[NoisedExample]") -> None:
    """The looks used in these examples, in their colours."""
    sides = [side for example in examples for side in token_views.sides(example).values()]
    used = {token.look for side in sides for token in side}
    entries = [
        Text(name, _STYLES[look]) for look, name in token_views.LOOKS.items() if look in used & _COLOURED
    ]
    console.print(Text("  ").join(entries))


def example(console: Console, shown: "NoisedExample", name: str = "") -> None:
    """A rule with the figures, then the corrupted text, the text, and the target unless it is the text."""
    counts = token_views.counts(shown)
    deleted = f" ({counts.deleted} deleted)" if counts.deleted else ""
    figures = f"{counts.text} tokens → {counts.inputs}, {counts.hidden} hidden{deleted}, {counts.moved} moved"
    heading = Text.assemble((name, "bold"), "  " if name else "", figures)
    console.rule(heading, style="dim", align="left")
    for side, tokens in token_views.sides(shown).items():
        console.print(Text.assemble((f"{_SIDES[side]}  ", "bold"), running_text(tokens)))


def running_text(tokens: Iterable[token_views.Token]) -> Text:
    """Tokens as text. The space before a coloured piece is not coloured; a coloured space is shown as ▁."""
    text = Text()
    for token in tokens:
        space, piece = token_views.split_space(token.piece, first=not text)
        style = _STYLES[token.look]
        text.append(" " if space else "")
        text.append(piece if style or piece != "▁" else "", style)
    return text


def skipped(console: Console, reasons: Mapping[str, str]) -> None:
    """A dim line for each preset that is not shown."""
    for name, reason in reasons.items():
        console.print(Text(f"{name} is not shown: {reason}", "dim"))


def presets(console: Console, documentation: Mapping[str, str]) -> None:
    """A table of all presets."""
    table = Table("preset", "what it does", box=None, padding=(0, 2, 1, 0), header_style="bold")
    for name, text in documentation.items():
        table.add_row(Text(name, "bold cyan"), Text(text))
    console.print(table)


def statistics(console: Console, summary: Mapping, title: str) -> None:
    """Rates, lengths and the histogram of span lengths in `NoiseStatistics.summary`."""
    console.print(Text(f"{title}: {summary['examples']} examples, {summary['text_tokens']} tokens", "bold"))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, meaning in _MEASURES.items():
        table.add_row(name, Text(f"{summary[name.strip()]:.2%}", justify="right"), Text(meaning, "dim"))
    table.add_row(
        "length ratio",
        Text(f"{summary['length_ratio']:.3f}", justify="right"),
        Text(
            f"encoder to decoder: {summary['mean_input_length']:.1f} to {summary['mean_target_length']:.1f} "
            "tokens per example, special tokens included",
            "dim",
        ),
    )
    console.print(table)
    if summary["spans"]:
        console.print(Text(f"tokens covered by one mask: {summary['mean_span']:.3f} on average", "bold"))
        console.print(_histogram({int(length): count for length, count in summary["spans"].items()}))


def picture(console: Console) -> str:
    """The output of a recording console as an SVG that loads nothing from the network."""
    from rich._export_format import CONSOLE_SVG_FORMAT

    without_fonts = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title="denoise-jax corrupt", code_format=without_fonts)


def _histogram(spans: Mapping[int, int]) -> Table:
    """Bars of counts by length; lengths above `_SINGLE_LENGTHS` are grouped by powers of two."""
    total = sum(spans.values())
    joined: dict[tuple[int, int], int] = {}
    for length in range(1, min(max(spans), _SINGLE_LENGTHS) + 1):
        joined[length, length] = spans.get(length, 0)
    for length in sorted(spans):
        if length > _SINGLE_LENGTHS:
            last = 1 << (length - 1).bit_length()
            joined[last // 2 + 1, last] = joined.get((last // 2 + 1, last), 0) + spans[length]
    most = max(joined.values())
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    for (first, last), count in joined.items():
        length = Text(str(first) if first == last else f"{first}–{last}", justify="right")
        share = Text(f"{count / total:.1%}", justify="right")
        table.add_row(length, Text("█" * round(_BAR * count / most) or "▏" * (count > 0), "red"), share)
    return table


_COLOURED = {look for look, style in _STYLES.items() if style}
