"""Opening a vocabulary, whichever library it belongs to."""

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path

from denoise_jax.vocabulary.base import MODEL_FILE, TOKENIZER_FILE, Vocabulary


def load_vocabulary(path: str | Path) -> Vocabulary:
    """Loads the vocabulary at `path`: a folder of either kind, or a SentencePiece .model file.

    Raises:
      DataError: there is no vocabulary at `path`, or it cannot be used.
    """
    # Only the library that this vocabulary needs is imported.
    path = Path(path)
    if path.name == TOKENIZER_FILE:
        path = path.parent
    if (path / TOKENIZER_FILE).is_file() and not (path / MODEL_FILE).is_file():
        from denoise_jax.vocabulary.tokenizers import TokenizersVocabulary

        return TokenizersVocabulary(path)
    from denoise_jax.vocabulary.sentencepiece import SentencePieceVocabulary

    return SentencePieceVocabulary(path)


def vocabulary_from_files(files: Mapping[str, bytes]) -> Vocabulary:
    """The vocabulary with these files, name → content; DataError if they cannot be used."""
    folder = tempfile.mkdtemp(prefix="denoise-jax-")
    for name, content in files.items():
        (Path(folder) / name).write_bytes(content)
    vocabulary = load_vocabulary(folder)
    weakref.finalize(vocabulary, shutil.rmtree, folder, ignore_errors=True)  # SeqIO reads the file later
    return vocabulary
