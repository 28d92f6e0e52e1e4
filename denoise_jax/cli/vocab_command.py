"""`denoise-jax vocab`: trains a SentencePiece vocabulary on a task's training split or on text files."""

import dataclasses
from typing import Annotated, Literal

import tyro

from denoise_jax.cli.arguments import parse
from denoise_jax.cli.terminal import quiet
from denoise_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class VocabArguments:
    """Trains a SentencePiece vocabulary with reserved ids for <mask> and other special tokens."""

    output: str
    """Folder to write the vocabulary to."""
    files: tyro.conf.Positional[tuple[str, ...]] = ()
    """Text files, UTF-8, instead of a task."""
    task: str | None = None
    """SeqIO task or mixture whose training split is read."""
    task_modules: Annotated[tuple[str, ...], tyro.conf.arg(metavar="MODULE")] = ("tasks",)
    """Modules that register tasks."""
    size: int = 32_000
    """Number of pieces, including reserved ids."""
    model_type: Literal["unigram", "bpe"] = "unigram"
    """SentencePiece's algorithm."""
    character_coverage: float = 0.9999
    """Share of characters that get a piece of their own."""
    byte_fallback: bool = False
    """Encode unknown characters as bytes instead of <unk>; takes 256 pieces."""
    sentinels: int = 100
    """Number of symbols <extra_id_0>, ... for span corruption (T5, UL2); part of the size."""
    control_symbols: tuple[str, ...] = ()
    """Further reserved symbols, such as language tokens."""


def main(argv: list[str]) -> int:
    """Trains and writes a vocabulary, and prints what was written."""
    arguments = parse(VocabArguments, argv, "vocab")
    if (arguments.task is None) == (not arguments.files):
        raise UserError("vocab: give either --task NAME or text files, and not both")
    with quiet():
        from denoise_jax.data.train_vocabulary import train_vocabulary
    options = vars(arguments).copy()
    folder = options.pop("output")
    trained = train_vocabulary(folder, **options)
    print(f"wrote {folder}: {len(trained)} pieces, mask id {trained.mask_id}, {trained.fingerprint()}")
    return 0
