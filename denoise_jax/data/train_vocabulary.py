"""Trains a SentencePiece vocabulary on the training split of a task, or on text files."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from denoise_jax.data import registry
from denoise_jax.errors import DataError, UserError
from denoise_jax.paths import to_path
from denoise_jax.vocabulary.base import Vocabulary
from denoise_jax.vocabulary.training import train_sentencepiece


def train_vocabulary(
    folder: str | Path,
    *,
    task: str | None = None,
    files: Sequence[str | Path] = (),
    task_modules: Sequence[str] = ("tasks",),
    size: int = 32_000,
    model_type: str = "unigram",
    character_coverage: float = 0.9999,
    byte_fallback: bool = False,
    sentinels: int = 100,
    control_symbols: Sequence[str] = (),
) -> Vocabulary:
    """Trains a SentencePiece vocabulary and writes it to `folder`.

    Args:
      task: name of a task or mixture, registered by one of `task_modules`, whose split `train` is read; it
        may be the task that will use the vocabulary. Either `task` or `files`.
      files: text files, UTF-8.
      size, model_type, character_coverage, byte_fallback, sentinels, control_symbols: see
        `train_sentencepiece`.

    Raises:
      UserError: an argument is out of bounds, or a file cannot be read.
      DataError: the task does not exist, there is no text, or SentencePiece cannot reach `size` on it.
    """
    if (task is None) == (not files):
        raise UserError("a vocabulary is trained on either a task or text files; give one of them")
    if not 0.98 <= character_coverage <= 1:
        raise UserError(f"character_coverage={character_coverage} is not between 0.98 and 1")
    if sentinels < 0:
        raise UserError(f"sentinels={sentinels} must be 0 or more")
    if size < 16 + sentinels + len(control_symbols):
        raise UserError(
            f"size={size} leaves no room for text next to the reserved ids and sentinels={sentinels}"
        )
    if to_path(folder).exists() and not to_path(folder).is_dir():
        raise UserError(f"{folder} is a file; name a folder for the vocabulary")
    texts = _texts_of_files(files)
    if task is not None:
        texts = registry.texts(registry.find_task(task, task_modules), "train")
    return train_sentencepiece(
        texts,
        folder,
        size=size,
        model_type=model_type,
        character_coverage=character_coverage,
        byte_fallback=byte_fallback,
        sentinels=sentinels,
        control_symbols=control_symbols,
    )


def _texts_of_files(files: Sequence[str | Path]) -> Iterator[str]:
    for file in files:
        try:
            yield to_path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {file} as UTF-8 text: {error}") from None
