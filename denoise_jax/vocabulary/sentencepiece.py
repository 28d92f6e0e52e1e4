"""SentencePiece models as vocabularies."""

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sentencepiece

from denoise_jax.errors import DataError
from denoise_jax.vocabulary.base import EOS_ID, INFO_FILE, MASK, MODEL_FILE, PAD_ID, UNK_ID, Vocabulary


class SentencePieceVocabulary(Vocabulary):
    """A SentencePiece model that keeps the reserved ids; its <s>, or </s>, starts the decoder."""

    def __init__(self, path: str | Path):
        """Loads `path`, a folder written by `vocabulary_training` or a .model file; DataError if unfit."""
        self.path = model_path(path)
        self.kept = {MODEL_FILE: self.path, INFO_FILE: self.path.with_name(INFO_FILE)}
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_file=str(self.path))
        except (RuntimeError, OSError) as error:
            raise DataError(f"vocabulary {self.path} is not a SentencePiece model: {error}") from None
        reserved = {
            "pad": self.processor.pad_id(),
            "eos": self.processor.eos_id(),
            "unk": self.processor.unk_id(),
        }
        expected = {"pad": PAD_ID, "eos": EOS_ID, "unk": UNK_ID}
        if reserved != expected:
            raise DataError(f"vocabulary {self.path} has ids {reserved}, but {expected} are needed")
        self.mask_id = self.symbol_id(MASK)
        if self.mask_id is None:
            raise DataError(
                f"vocabulary {self.path} has no control symbol {MASK}; train one with `denoise-jax vocab`"
            )
        bos = self.processor.bos_id()
        self.bos_id = self.start_id = bos if bos >= 0 else EOS_ID
        self.hf_ids = np.arange(len(self), dtype=np.int32)

    def __len__(self) -> int:
        return self.processor.get_piece_size()

    @functools.cached_property
    def control_ids(self) -> tuple[int, ...]:
        return tuple(i for i in range(len(self)) if self.processor.is_control(i))

    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the model file's SHA-256."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]

    def encode(self, text: str) -> list[int]:
        return self.processor.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self.processor.decode([int(i) for i in ids if not self.processor.is_control(int(i))])

    def piece(self, index: int) -> str:
        return self.processor.id_to_piece(int(index))

    def piece_id(self, piece: str) -> int | None:
        index = self.processor.piece_to_id(piece)
        return None if index == UNK_ID else index


def model_path(path: str | Path) -> Path:
    """The .model file that `path`, a folder or a file, stands for; DataError if there is none."""
    path = Path(path)
    file = path / MODEL_FILE if path.is_dir() or path.suffix != ".model" else path
    if not file.is_file():
        raise DataError(f"no vocabulary at {file}: make one with `denoise-jax vocab --output {file.parent}`")
    return file
