"""An HTML page that shows noised examples: one file that loads nothing from the network."""

import dataclasses
import importlib.resources
from collections.abc import Sequence

import jinja2

from denoise_jax.inspection import token_views
from denoise_jax.inspection.examples import NoisedExample

_SIDES = {"inputs": "corrupted", "text": "text", "targets": "target"}


@dataclasses.dataclass(frozen=True)
class Block:
    """A section of the page: a heading, a description, and examples."""

    heading: str
    about: str
    examples: Sequence[NoisedExample]


def render(title: str, blocks: Sequence[Block], skipped: dict[str, str] | None = None) -> str:
    """The content of the HTML file.

    Every token has its provenance in `data-` attributes. Hovering over a token or focusing it highlights the
    corresponding tokens of the other sides. So does an address that ends in `#hover=EXAMPLE.SIDE.INDEX`:
    indices count from 1, and `#hover=3` is the third corrupted token of the first example.

    Args:
      skipped: presets that are not shown, with the reason.
    """
    template = importlib.resources.files("denoise_jax.inspection").joinpath("templates/noise.html.j2")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    shown, number = [], 0
    for block in blocks:
        examples = []
        for example in block.examples:
            number += 1
            examples.append(
                {"number": number, "counts": token_views.counts(example), "sides": _rows(example)}
            )
        shown.append({"heading": block.heading, "about": block.about, "examples": examples})
    rows = [row for block in shown for example in block["examples"] for row in example["sides"]]
    looks = {cell["token"].look for row in rows for cell in row["cells"]}
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        title=title,
        blocks=shown,
        skipped=skipped or {},
        legend={look: name for look, name in token_views.LOOKS.items() if look in looks},
    )


def _rows(example: NoisedExample) -> list[dict]:
    rows = []
    for side, tokens in token_views.sides(example).items():
        cells = []
        for token in tokens:
            space, piece = token_views.split_space(token.piece, first=not cells)
            cells.append({"token": token, "space": space, "piece": piece})
        rows.append({"side": side, "name": _SIDES[side], "cells": cells})
    return rows
