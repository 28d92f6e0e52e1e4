"""`denoise-jax vocab`: trains a SentencePiece vocabulary on a task's training split or on text files."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from denoise_jax.cli.arguments import parse
from denoise_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class VocabArguments:
    """Trains a SentencePiece vocabulary in which <mask> and its kin are reserved."""

    output: str
    """Folder that receives the vocabulary."""
    files: tyro.conf.Positional[tuple[str, ...]] = ()
    """Text files, UTF-8, instead of a task."""
    task: str | None = None
    """SeqIO task or mixture whose training split is read."""
    task_modules: Annotated[tuple[str, ...], tyro.conf.arg(metavar="MODULE")] = ("tasks",)
    """Modules that register tasks."""
    size: int = 32_000
    """Pieces, reserved ids included."""
    model_type: Literal["unigram", "bpe"] = "unigram"
    """SentencePiece's algorithm."""
    character_coverage: float = 0.9999
    """Share of characters that get a piece of their own."""
    byte_fallback: bool = False
    """Spell unknown characters in bytes instead of <unk>; takes 256 pieces."""
    sentinels: int = 100
    """Symbols <extra_id_0>, ... that stand for spans in span corruption (T5, UL2); part of the size."""
    control_symbols: tuple[str, ...] = ()
    """Further reserved symbols, such as language tokens."""


def main(argv: list[str]) -> int:
    """Trains, writes, and says what was written."""
    arguments = parse(VocabArguments, argv, "vocab")
    if (arguments.task is None) == (not arguments.files):
        raise UserError("vocab: give either --task NAME or text files, and not both")
    if not 0.98 <= arguments.character_coverage <= 1:
        raise UserError(f"--character-coverage {arguments.character_coverage} is not between 0.98 and 1")
    if arguments.sentinels < 0:
        raise UserError(f"--sentinels {arguments.sentinels} must be 0 or more")
    if arguments.size < 16 + arguments.sentinels + len(arguments.control_symbols):
        raise UserError(
            f"--size {arguments.size} leaves no room for text beside the reserved ids and "
            f"--sentinels {arguments.sentinels}"
        )
    if Path(arguments.output).exists() and not Path(arguments.output).is_dir():
        raise UserError(f"--output {arguments.output} is a file; name a folder")
    from denoise_jax.vocabulary import training as vocabulary_training

    trained = vocabulary_training.train(
        _texts(arguments),
        arguments.output,
        size=arguments.size,
        model_type=arguments.model_type,
        character_coverage=arguments.character_coverage,
        byte_fallback=arguments.byte_fallback,
        sentinels=arguments.sentinels,
        control_symbols=arguments.control_symbols,
    )
    print(f"wrote {trained.path}: {len(trained)} pieces, mask id {trained.mask_id}, {trained.fingerprint()}")
    return 0


def _texts(arguments: VocabArguments):
    if arguments.task is not None:
        from denoise_jax.cli.terminal import quiet

        with quiet():
            from denoise_jax.data import registry
        yield from registry.texts(registry.find_task(arguments.task, arguments.task_modules), "train")
    for file in arguments.files:
        try:
            yield Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {file} as UTF-8 text: {error}") from None
