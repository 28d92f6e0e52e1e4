"""Writes docs/files.md from the first line of each module's docstring.

    python docs/files.py

`make docs` runs it too, and tests/test_documents.py fails if the page is out of date.
"""

import ast
import re
from pathlib import Path

PAGE = Path(__file__).with_suffix(".md")
ROOT = Path(__file__).parents[1]

INTRODUCTION = """\
# File map

<!-- Written by `python docs/files.py` from the modules' docstrings; do not edit. -->

What each file holds, in the order of the data flow. [Architecture](architecture.md) says which folder may
import which.
"""

FOLDERS = {
    "denoise_jax": "leaves without a framework, and the public functions",
    "denoise_jax/corruption": "noise",
    "denoise_jax/vocabulary": "text to ids and back",
    "denoise_jax/data": "text to batches",
    "denoise_jax/inspection": "looking at noise",
    "denoise_jax/model": "layers to logits",
    "denoise_jax/parallel": "devices",
    "denoise_jax/runs": "what is on disk",
    "denoise_jax/generation": "decoding",
    "denoise_jax/evaluation": "measuring",
    "denoise_jax/training": "the step, the loop and the logs",
    "denoise_jax/interop": "Hugging Face",
    "denoise_jax/cli": "the command line",
    "tasks": "SeqIO registrations",
    "configs": "complete configurations, by name",
    "benchmarks": "what is timed, and against what",
}


def page() -> str:
    """The Markdown of docs/files.md."""
    return "\n".join([INTRODUCTION, *(_section(folder, about) for folder, about in FOLDERS.items())])


def _section(folder: str, about: str) -> str:
    rows = [f"## {folder}/: {about}", "", "| file | holds |", "| --- | --- |"]
    for file in sorted((ROOT / folder).glob("*.py")):
        if file.name != "__init__.py" or folder == "denoise_jax":
            line = ast.get_docstring(ast.parse(file.read_text())).splitlines()[0]
            quoted = re.sub(r"(?<!`)(</?\w+>)", r"`\1`", line.replace("|", "\\|"))
            rows.append(f"| `{file.name}` | {quoted} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
