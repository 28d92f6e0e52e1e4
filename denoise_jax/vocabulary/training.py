"""Training SentencePiece vocabularies with reserved ids."""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from denoise_jax.errors import DataError
from denoise_jax.files import write_atomically
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

# Control symbols follow the four reserved ids in this order. Text that contains their names never yields
# their ids, so nobody can type a mask into a corpus.
CONTROL_SYMBOLS = (MASK, ROTATION, SEPARATOR, *MODES)


def train(
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
    """Trains a vocabulary (Kudo & Richardson 2018) and writes it whole or not at all.

    Args:
      texts: documents; their lines are the training sentences.
      folder: receives the model and a JSON description; an existing vocabulary is replaced.
      size: pieces in all, reserved ids included.
      model_type: "unigram" or "bpe".
      character_coverage: share of characters that get a piece of their own.
      byte_fallback: spell unknown characters in bytes (takes 256 pieces) instead of <unk>.
      sentinels: symbols <extra_id_0>, <extra_id_1>, ... that stand for spans in span corruption (T5).
      control_symbols: further reserved symbols, such as language or mode tokens.

    Raises:
      DataError: no text, or a size that SentencePiece cannot reach with this text.
    """
    counts = {"documents": 0, "characters": 0}
    # A symbol that is asked for twice, or reserved anyway, is there once.
    symbols = list(
        dict.fromkeys([*CONTROL_SYMBOLS, *map(SENTINEL.format, range(sentinels)), *control_symbols])
    )

    def lines():
        for text in texts:
            counts["documents"] += 1
            counts["characters"] += len(text)
            yield from (line for line in text.splitlines() if line.strip())

    # SentencePiece's own message for an empty iterator is an internal check, so look first.
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
            max_sentence_length=1 << 20,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).split("]")[-1].strip() or str(error)
        raise DataError(f"cannot train a vocabulary of size={size}: {reason}") from None
    info = {"size": size, "model_type": model_type, "control_symbols": symbols}
    write_atomically(Path(folder) / MODEL_FILE, model.getvalue())
    write_atomically(Path(folder) / INFO_FILE, json.dumps({**info, **counts}, indent=2) + "\n")
    return SentencePieceVocabulary(folder)
