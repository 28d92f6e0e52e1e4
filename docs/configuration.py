"""Writes docs/configuration.md from the descriptions and bounds in denoise_jax/config.py.

    python docs/configuration.py

`make docs` runs it too, and tests/test_documents.py fails if the page is out of date.
"""

import re
import types
from collections.abc import Iterator
from inspect import getdoc
from pathlib import Path
from typing import Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from denoise_jax.config import Config

PAGE = Path(__file__).with_suffix(".md")

INTRODUCTION = """\
# Configuration

<!-- Written by `python docs/configuration.py` from denoise_jax/config.py; do not edit. -->

A run is described by one `Config`. Start from a named configuration in `configs/`, a module of your own
with a function `config()`, or the `config.json` of a run, and override any field on the command line:

```
denoise-jax train quickstart --workdir runs/wider --model.embed-dim 256 --training.num-steps 3000
```

In Python, `Config.replace` does the same: `config.replace(model={"embed_dim": 256})`. Unknown fields, values
out of bounds and contradictory fields are rejected by name. `denoise-jax config NAME` prints the resolved
configuration as JSON, and [Resuming](commands.md#resuming) says which fields may change during a run.
"""


def page() -> str:
    """The Markdown of docs/configuration.md."""
    sections = {name: field.annotation for name, field in Config.model_fields.items()}
    own = [name for name, annotation in sections.items() if not _is_section(annotation)]
    tables = [_table("Config", Config, own)]
    for name, annotation in sections.items():
        if _is_section(annotation):
            tables.append(_table(f"`{name}`", annotation, list(annotation.model_fields)))
    return "\n".join([INTRODUCTION, *tables])


def _is_section(annotation) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _table(title: str, section: type[BaseModel], names: list[str]) -> str:
    rows = ["| field | type | default | bounds | description |", "| --- | --- | --- | --- | --- |"]
    for name in names:
        field = section.model_fields[name]
        bounds, description = ", ".join(_bounds(field)), _quote_tokens(field.description)
        cells = f"`{name}`", _type(field.annotation), _default(field), bounds, description
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join([f"## {title}", "", _quote_tokens(getdoc(section)), "", *rows, ""])


def _type(annotation) -> str:
    """`int or None`; the choices of a Literal."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(argument) for argument in arguments)
    if origin is tuple:
        return f"tuple of {_type(arguments[0])}"
    return "None" if annotation is type(None) else annotation.__name__


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    values = field.default if isinstance(field.default, tuple) else (field.default,)
    return f"`{' '.join(map(str, values))}`"  # as on the command line


def _bounds(field: FieldInfo) -> Iterator[str]:
    for bound in field.metadata:
        match bound:
            case Ge(ge):
                yield f"≥ {ge}"
            case Gt(gt):
                yield f"> {gt}"
            case Le(le):
                yield f"≤ {le}"
            case Lt(lt):
                yield f"< {lt}"
            case MinLen(length):
                yield f"length ≥ {length}"


def _quote_tokens(text: str) -> str:
    """Puts backticks around tokens such as </s>, which Markdown would read as HTML."""
    return re.sub(r"</?\w+>", r"`\g<0>`", text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
