"""Files that commands write for people: whole, or not at all."""

import os
from pathlib import Path


def write_whole(file: Path, text: str) -> None:
    """Writes the whole file or nothing: beside it first, and then under its name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
