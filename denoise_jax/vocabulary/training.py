"""Training SentencePiece vocabularies with reserved ids."""

import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import sentencepiece

from denoise_jax.errors import DataError
from denoise_jax.files import write_atomically
from denoise_jax.paths import to_path
from denoise_jax.vocabulary.base import (
    BOS_ID,
    EOS_ID,
    INFO_FILE,
    MASK,
    MODEL_FILE,
    MODES,
    PAD_ID,
    ROTATION,
    SENTINEL,
    SEPARATOR,
    UNK_ID,
)
from denoise_jax.vocabulary.sentencepiece import SentencePieceVocabulary

# Control symbols follow the four reserved ids in this order. Their names in a text never yield their ids, so
# a corpus cannot contain a mask.
CONTROL_SYMBOLS = (MASK, ROTATION, SEPARATOR, *MODES)
_RESERVED = ("<pad>", "</s>", "<unk>", "<s>")

# SentencePiece skips a sentence that has more bytes, or that contains its own mark of unknown characters. Its
# scores overflow on much shorter ones that have no space.
_MOST_BYTES = 1 << 20
_MOST_CHARACTERS = 1 << 14
_NOT_TRAINED_ON = str.maketrans({"\u2585": " ", "\0": " "})


def train_sentencepiece(
    texts: Iterable[str],
    folder: str | Path,
    *,
    size: int,
    model_type: str = "unigram",
    character_coverage: float = 0.9999,
    byte_fallback: bool = False,
    sentinels: int = 0,
    control_symbols: Sequence[str] = (),
) -> SentencePieceVocabulary:
    """Trains a SentencePiece vocabulary (Kudo & Richardson 2018) and writes it atomically.

    Args:
      texts: documents; their lines are the training sentences.
      folder: receives the model and a JSON description; an existing vocabulary is replaced.
      size: number of pieces, including reserved ids.
      model_type: "unigram" or "bpe".
      character_coverage: share of characters that get a piece of their own.
      byte_fallback: encode unknown characters as bytes (takes 256 pieces) instead of <unk>.
      sentinels: number of symbols <extra_id_0>, <extra_id_1>, ... for span corruption (T5).
      control_symbols: further reserved symbols, such as language or mode tokens.

    Raises:
      DataError: there is no text, SentencePiece cannot reach `size` on it, or a control symbol is one that
        text needs.
    """
    for symbol in control_symbols:
        _check_symbol(symbol)
    counts = {"documents": 0, "characters": 0}
    # A symbol that is given twice, or is reserved anyway, appears once.
    symbols = list(
        dict.fromkeys([*CONTROL_SYMBOLS, *map(SENTINEL.format, range(sentinels)), *control_symbols])
    )

    def lines():
        for text in texts:
            counts["documents"] += 1
            counts["characters"] += len(text)
            yield from _sentences(text)

    # On an empty iterator SentencePiece reports a failed internal check.
    stream = lines()
    first = next(stream, None)
    if first is None:
        raise DataError(f"no text to train a vocabulary on ({counts['documents']} documents, all empty)")

    def all_lines():
        yield first
        yield from stream

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=all_lines(),
            model_writer=model,
            vocab_size=size,
            model_type=model_type,
            character_coverage=character_coverage,
            byte_fallback=byte_fallback,
            pad_id=PAD_ID,
            eos_id=EOS_ID,
            unk_id=UNK_ID,
            bos_id=BOS_ID,
            control_symbols=symbols,
            max_sentence_length=_MOST_BYTES,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).split("]")[-1].strip() or str(error)
        raise DataError(f"cannot train a vocabulary of size={size}: {reason}") from None
    info = {"size": size, "model_type": model_type, "control_symbols": symbols, **counts}
    files = {MODEL_FILE: model.getvalue(), INFO_FILE: (json.dumps(info, indent=2) + "\n").encode()}
    for name, content in files.items():
        write_atomically(to_path(folder) / name, content)
    return SentencePieceVocabulary(files, str(folder))


def _sentences(text: str) -> Iterator[str]:
    """The lines of a text, in parts that SentencePiece accepts: long ones are cut, at a space if possible."""
    for line in text.translate(_NOT_TRAINED_ON).splitlines():
        while len(line) > _MOST_CHARACTERS:
            end = line.rfind(" ", 1, _MOST_CHARACTERS)
            end = end if end > 0 else _MOST_CHARACTERS
            yield line[:end]
            line = line[end:]
        if line.strip():
            yield line


def _check_symbol(symbol: str) -> None:
    """DataError if text would lose a piece that it needs when `symbol` is reserved."""
    problem = None
    if len(unicodedata.normalize("NFKC", symbol).strip()) < 2:
        problem = "is a single character or none, so text could no longer contain it; write it as <...>"
    elif symbol in _RESERVED:
        problem = "is reserved already; leave it out"
    elif re.search(r"[\s\u2581]", symbol) or re.fullmatch("<0x[0-9A-F]{2}>", symbol):
        problem = "has a space or names a byte, as pieces of text do; choose another name"
    if problem:
        raise DataError(f"control_symbols: {symbol!r} {problem}")
