"""How tokens of a noised example are displayed: their looks, and which tokens of the sides correspond.

`terminal_view.py` and `html_page.py` give the looks their colours.
"""

from typing import NamedTuple

import numpy as np

from denoise_jax.control_characters import escape_controls
from denoise_jax.corruption.record import Op, TargetNoise
from denoise_jax.inspection.examples import NoisedExample
from denoise_jax.inspection.statistics import is_closed, moved
from denoise_jax.target_kinds import TargetKind

# Look of a token → its entry in the legend.
LOOKS = {
    "kept": "kept",
    "moved": "moved: follows another token",
    "mask": "mask",
    "inserted": "inserted",
    "replaced": "replaced",
    "sentinel": "sentinel",
    "visible": "visible",
    "covered": "hidden (covered)",
    "deleted": "hidden (deleted)",
}
_OF_OP = {
    Op.KEEP: "kept",
    Op.MASK: "mask",
    Op.INSERT: "inserted",
    Op.RANDOM: "replaced",
    Op.SENTINEL: "sentinel",
}
_OF_NOISE = {TargetNoise.VISIBLE: "visible", TargetNoise.COVERED: "covered", TargetNoise.DELETED: "deleted"}


class Token(NamedTuple):
    """One piece of a side."""

    piece: str
    look: str  # a key of LOOKS
    places: list[int]  # positions in the clean text that it corresponds to, from 1
    account: str  # the same in words
    details: dict[str, int | str]  # its provenance


class Counts(NamedTuple):
    """What the noise did to one text, in tokens, without the </s> that closes both sides."""

    text: int
    inputs: int
    hidden: int  # covered or deleted
    deleted: int
    moved: int  # target kind MOVED


def counts(example: NoisedExample) -> Counts:
    """The figures in the heading of an example."""
    visible = example.text_noise.count(TargetNoise.VISIBLE)
    return Counts(
        text=len(example.text),
        inputs=_length(example),
        hidden=len(example.text) - visible,
        deleted=example.text_noise.count(TargetNoise.DELETED),
        moved=int(_moved(example).sum()),
    )


def sides(example: NoisedExample) -> dict[str, list[Token]]:
    """Tokens of `inputs` and `text`, and of `targets` unless they are the text."""
    found = {"inputs": _inputs(example), "text": _text(example)}
    if example.text not in (example.targets, example.targets[:-1]):
        found["targets"] = _targets(example)
    return found


def split_space(piece: str, first: bool) -> tuple[bool, str]:
    """Whether a space precedes a piece, and the rest of it for display, without control characters."""
    symbol = piece.startswith(("<", "[")) and piece.endswith((">", "]"))
    shown = escape_controls(piece.removeprefix("▁") or "▁", keep="")
    return not first and (piece.startswith("▁") or symbol), shown


def places_of_inputs(example: NoisedExample) -> list[list[int]]:
    """Positions in the clean text, from 1, that each corrupted token corresponds to.

    A mask covers the token at its source position and the covered tokens after it. If text was moved before
    it was masked, the record does not say which tokens followed in the moved order. Such a mask gets covered
    tokens that are left over, preferring those nearest before the text that follows it. So every covered
    token has exactly one mask, unless its mask was truncated.
    """
    places = [
        [source] if span > 1 else []
        for source, span in zip(example.inputs_source, example.inputs_span, strict=True)
    ]
    noise = dict(enumerate(example.text_noise, 1))
    free = {place for place, what in noise.items() if what == TargetNoise.COVERED}
    free -= {place for own in places for place in own}
    for own, span in zip(places, example.inputs_span, strict=True):
        following = own[-1] + 1 if own else 0
        while len(own) < span - 1 and (following in free or noise.get(following) == TargetNoise.DELETED):
            if following in free:
                free.remove(following)
                own.append(following)
            following += 1
    anchors = [*example.inputs_source[1:], len(example.text) + 1]
    for own, span, anchor in zip(places, example.inputs_span, anchors, strict=True):
        if missing := max(span - 1 - len(own), 0):
            nearest = sorted(free, key=lambda place: (place >= anchor, abs(place - anchor)))[:missing]
            free -= set(nearest)
            own += sorted(nearest)
    return places


def _inputs(example: NoisedExample) -> list[Token]:
    tokens = []
    columns = (example.inputs, example.inputs_op, example.inputs_source, example.inputs_span)
    for piece, op, source, span, places, has_moved in zip(
        *columns, places_of_inputs(example), _moved(example), strict=True
    ):
        look = "moved" if has_moved else _OF_OP[op]
        if places:
            account = f"{LOOKS[look]}: {_positions(places)} of the text"
        else:
            account = f"{LOOKS[look]}: before {_positions([source])} of the text"
        details = {"op": Op(op).name, "source": source, "span": span}
        tokens.append(Token(piece, look, places, account, details))
    return tokens


def _length(example: NoisedExample) -> int:
    """Number of corrupted tokens without the one that closes an example."""
    return len(example.inputs) - is_closed(example.inputs_op, example.inputs_source, len(example.text))


def _moved(example: NoisedExample) -> np.ndarray:
    """Whether each corrupted token has moved, bool [n]; False for the token that closes an example."""
    length = _length(example)
    found = np.zeros(len(example.inputs), bool)
    found[:length] = moved(example.inputs_op[:length], example.inputs_source[:length])
    return found


def _text(example: NoisedExample) -> list[Token]:
    tokens = []
    for place, (piece, noise) in enumerate(zip(example.text, example.text_noise, strict=True), 1):
        look = _OF_NOISE[noise]
        account = f"{_positions([place])}: {LOOKS[look]}"
        tokens.append(Token(piece, look, [place], account, {"source": place}))
    return tokens


def _targets(example: NoisedExample) -> list[Token]:
    looks = {place: _OF_NOISE[noise] for place, noise in enumerate(example.text_noise, 1)}
    tokens = []
    columns = (example.targets, example.targets_source, example.targets_kind)
    for piece, source, kind in zip(*columns, strict=True):
        of_text = source <= len(example.text) and piece == example.text[source - 1]
        closing = source > len(example.text) and piece == example.inputs[-1]
        look = looks[source] if of_text else "kept" if closing else "sentinel"
        account = f"{LOOKS[look]}: {'' if of_text else 'before '}{_positions([source])} of the text"
        details = {"source": source, "kind": TargetKind(kind).name}
        tokens.append(Token(piece, look, [source], account, details))
    return tokens


def _positions(places: list[int]) -> str:
    """ "token 5", "tokens 5 to 7", "tokens 5, 9": consecutive positions as one range."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    ranges = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    return f"token{'s' * (len(places) > 1)} {', '.join(ranges)}"
