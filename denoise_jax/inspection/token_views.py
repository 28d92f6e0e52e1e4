"""What a person is shown of a noised example: the look of every token, and which tokens belong together.

The terminal (`data/drawing.py`) and the page (`data/page.py`) give the looks their colours.
"""

import re
from typing import NamedTuple

import numpy as np

from denoise_jax.corruption.record import Op, TargetNoise
from denoise_jax.inspection.examples import Seen
from denoise_jax.inspection.statistics import is_closed, moved
from denoise_jax.target_kinds import TargetKind

# Look of a token: what the legend says.
LOOKS = {
    "kept": "kept",
    "moved": "moved: follows another token",
    "mask": "mask",
    "inserted": "inserted, for nothing",
    "replaced": "replaced",
    "sentinel": "sentinel",
    "seen": "seen",
    "hidden": "hidden",
    "deleted": "deleted",
}
_OF_OP = {
    Op.KEEP: "kept",
    Op.MASK: "mask",
    Op.INSERT: "inserted",
    Op.RANDOM: "replaced",
    Op.SENTINEL: "sentinel",
}
# What a terminal obeys instead of showing it, and what turns the direction of the text behind it.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_OF_NOISE = {TargetNoise.VISIBLE: "seen", TargetNoise.COVERED: "hidden", TargetNoise.DELETED: "deleted"}


class Token(NamedTuple):
    """One piece of a side."""

    piece: str
    look: str  # a key of LOOKS
    places: list[int]  # positions in the clean text that it stands for, from 1
    account: str  # the same in words
    details: dict[str, int | str]  # the columns behind it


class Counts(NamedTuple):
    """What the noise did to one text, in tokens; the </s> that closes both sides is not counted."""

    text: int
    inputs: int
    hidden: int
    deleted: int
    moved: int  # whose target kind is MOVED


def counts(seen: Seen) -> Counts:
    """The figures that head an example."""
    return Counts(
        text=len(seen.text),
        inputs=_length(seen),
        hidden=seen.text_noise.count(TargetNoise.COVERED),
        deleted=seen.text_noise.count(TargetNoise.DELETED),
        moved=int(_moved(seen).sum()),
    )


def sides(seen: Seen) -> dict[str, list[Token]]:
    """Tokens of `inputs` and `text`, and of `targets` where the decoder does not just write the text."""
    found = {"inputs": _inputs(seen), "text": _text(seen)}
    if seen.text not in (seen.targets, seen.targets[:-1]):
        found["targets"] = _targets(seen)
    return found


def pieces_apart(piece: str, first: bool) -> tuple[bool, str]:
    """Whether a space goes before a piece, and what is shown of it, without a control character."""
    symbol = piece.startswith(("<", "[")) and piece.endswith((">", "]"))
    shown = _CONTROL.sub(_picture, piece.removeprefix("▁") or "▁")
    return not first and (piece.startswith("▁") or symbol), shown


def _picture(control: re.Match[str]) -> str:
    """␛ for an escape; \\x9b and the like for those that Unicode has no picture of."""
    code = ord(control[0])
    if code < 0x20 or code == 0x7F:
        return chr(0x2421 if code == 0x7F else 0x2400 + code)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def places_of_inputs(seen: Seen) -> list[list[int]]:
    """Positions in the clean text, from 1, that each corrupted token stands for.

    A mask stands for its source and the hidden tokens behind it. Where text was moved before it was hidden,
    what followed in the moved order is no longer written anywhere: such a mask gets the hidden tokens that
    are left over, those first that lie nearest before the text behind it. Every hidden token so has exactly
    one mask, unless its mask was cut off.
    """
    places = [
        [source] if span > 1 else []
        for source, span in zip(seen.inputs_source, seen.inputs_span, strict=True)
    ]
    noise = dict(enumerate(seen.text_noise, 1))
    free = {place for place, what in noise.items() if what == TargetNoise.COVERED}
    free -= {place for own in places for place in own}
    for own, span in zip(places, seen.inputs_span, strict=True):
        following = own[-1] + 1 if own else 0
        while len(own) < span - 1 and (following in free or noise.get(following) == TargetNoise.DELETED):
            if following in free:
                free.remove(following)
                own.append(following)
            following += 1
    behind = [*seen.inputs_source[1:], len(seen.text) + 1]
    for own, span, anchor in zip(places, seen.inputs_span, behind, strict=True):
        if missing := max(span - 1 - len(own), 0):
            nearest = sorted(free, key=lambda place: (place >= anchor, abs(place - anchor)))[:missing]
            free -= set(nearest)
            own += sorted(nearest)
    return places


def _inputs(seen: Seen) -> list[Token]:
    tokens = []
    columns = (seen.inputs, seen.inputs_op, seen.inputs_source, seen.inputs_span)
    for piece, op, source, span, places, has_moved in zip(
        *columns, places_of_inputs(seen), _moved(seen), strict=True
    ):
        look = "moved" if has_moved else _OF_OP[op]
        if places:
            account = f"{LOOKS[look]}: {_numbers(places)} of the text"
        else:
            account = f"{LOOKS[look]}: stands before {_numbers([source])} of the text"
        details = {"op": Op(op).name, "source": source, "span": span}
        tokens.append(Token(piece, look, places, account, details))
    return tokens


def _length(seen: Seen) -> int:
    """Number of corrupted tokens without the one that closes an example."""
    return len(seen.inputs) - is_closed(seen.inputs_op, seen.inputs_source, len(seen.text))


def _moved(seen: Seen) -> np.ndarray:
    """Whether each corrupted token has moved, bool [n]; one that closes the example has not."""
    length = _length(seen)
    found = np.zeros(len(seen.inputs), bool)
    found[:length] = moved(seen.inputs_op[:length], seen.inputs_source[:length])
    return found


def _text(seen: Seen) -> list[Token]:
    tokens = []
    for place, (piece, noise) in enumerate(zip(seen.text, seen.text_noise, strict=True), 1):
        look = _OF_NOISE[noise]
        tokens.append(Token(piece, look, [place], f"{_numbers([place])}: {LOOKS[look]}", {"source": place}))
    return tokens


def _targets(seen: Seen) -> list[Token]:
    looks = {place: _OF_NOISE[noise] for place, noise in enumerate(seen.text_noise, 1)}
    tokens = []
    for piece, source, kind in zip(seen.targets, seen.targets_source, seen.targets_kind, strict=True):
        of_text = source <= len(seen.text) and piece == seen.text[source - 1]
        closing = source > len(seen.text) and piece == seen.inputs[-1]
        look = looks[source] if of_text else "kept" if closing else "sentinel"
        account = f"{LOOKS[look]}: {'' if of_text else 'before '}{_numbers([source])} of the text"
        details = {"source": source, "kind": TargetKind(kind).name}
        tokens.append(Token(piece, look, [source], account, details))
    return tokens


def _numbers(places: list[int]) -> str:
    """ "token 5", "tokens 5 to 7", "tokens 5, 9": consecutive places as one range."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    told = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    return f"token{'s' * (len(places) > 1)} {', '.join(told)}"
