"""A page to look at noise with: one file of HTML that asks for nothing from the network."""

import dataclasses
import importlib.resources
from collections.abc import Sequence

import jinja2

from denoise_jax.inspection import token_views
from denoise_jax.inspection.examples import Seen

_SIDES = {"inputs": "corrupted", "text": "text", "targets": "target"}


@dataclasses.dataclass(frozen=True)
class Block:
    """What stands together on the page: a heading, and examples under it."""

    heading: str
    about: str
    examples: Sequence[Seen]


def render(title: str, blocks: Sequence[Block], skipped: dict[str, str] | None = None) -> str:
    """The page, UTF-8 text of an HTML file.

    Each token carries its provenance in `data-` attributes. Hovering or focusing one, or an address that
    ends in `#hover=EXAMPLE.SIDE.NUMBER` (numbers from 1; `#hover=3` is the third corrupted token of the
    first example), lights up the tokens of the other sides that stand for the same places of the text.
    `skipped` names presets that are not shown, with the reason.
    """
    template = importlib.resources.files("denoise_jax.data").joinpath("templates/noise.html.j2")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    shown, number = [], 0
    for block in blocks:
        examples = []
        for seen in block.examples:
            number += 1
            examples.append({"number": number, "counts": token_views.counts(seen), "sides": _rows(seen)})
        shown.append({"heading": block.heading, "about": block.about, "examples": examples})
    looks = {
        cell["token"].look
        for b in shown
        for e in b["examples"]
        for row in e["sides"]
        for cell in row["cells"]
    }
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        title=title,
        blocks=shown,
        skipped=skipped or {},
        legend={look: name for look, name in token_views.LOOKS.items() if look in looks},
    )


def _rows(seen: Seen) -> list[dict]:
    rows = []
    for side, tokens in token_views.sides(seen).items():
        cells = []
        for token in tokens:
            space, piece = token_views.pieces_apart(token.piece, first=not cells)
            cells.append({"token": token, "space": space, "piece": piece})
        rows.append({"side": side, "name": _SIDES[side], "cells": cells})
    return rows
