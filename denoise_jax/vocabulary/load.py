"""Loads a vocabulary of either kind, from a path or from the files of a run or checkpoint."""

from collections.abc import Mapping
from pathlib import Path

from denoise_jax.errors import DataError
from denoise_jax.paths import reachable_path
from denoise_jax.vocabulary.base import INFO_FILE, MODEL_FILE, ORIGINAL_FILES, TOKENIZER_FILE, Vocabulary


def load_vocabulary(path: str | Path) -> Vocabulary:
    """Loads the vocabulary at `path`: a folder of either kind, or a SentencePiece .model file.

    Raises:
      DataError: `path` has no vocabulary, or one that cannot be used.
    """
    path = reachable_path(path)
    if path.suffix == ".model" and not path.is_dir():
        files = {MODEL_FILE: path, INFO_FILE: path.with_name(INFO_FILE)}
    else:
        folder = path.parent if path.name == TOKENIZER_FILE else path
        files = {name: folder / name for name in (MODEL_FILE, *ORIGINAL_FILES, INFO_FILE)}
    try:
        contents = {name: file.read_bytes() for name, file in files.items() if file.is_file()}
    except OSError as error:
        raise DataError(f"cannot read vocabulary {path}: {error}") from None
    if not {MODEL_FILE, TOKENIZER_FILE} & contents.keys():
        missing = files[MODEL_FILE]
        raise DataError(
            f"no vocabulary at {missing}: make one with `denoise-jax vocab --output {missing.parent}`"
        )
    return vocabulary_from_files(contents, str(path))


def vocabulary_from_files(files: Mapping[str, bytes], name: str = "of the checkpoint") -> Vocabulary:
    """The vocabulary with these files, as returned by `Vocabulary.files()`: name → content.

    Args:
      name: how error messages refer to it.

    Raises:
      DataError: the files are incomplete or cannot be used.
    """
    # Only the library that this vocabulary needs is imported.
    if TOKENIZER_FILE in files and MODEL_FILE not in files:
        from denoise_jax.vocabulary.tokenizers import TokenizersVocabulary

        return TokenizersVocabulary(files, name)
    from denoise_jax.vocabulary.sentencepiece import SentencePieceVocabulary

    return SentencePieceVocabulary(files, name)
