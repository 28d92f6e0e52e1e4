"""SentencePiece models as vocabularies."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import sentencepiece

from denoise_jax.errors import DataError
from denoise_jax.vocabulary.base import EOS_ID, INFO_FILE, MASK, MODEL_FILE, PAD_ID, UNK_ID, Vocabulary


class SentencePieceVocabulary(Vocabulary):
    """A SentencePiece model with the reserved ids. The decoder starts with <s>, or </s> if it is absent."""

    _file_names = (MODEL_FILE, INFO_FILE)
    _defining_files = (MODEL_FILE,)

    def __init__(self, files: Mapping[str, bytes], name: str):
        """DataError if the model cannot be read or has other reserved ids."""
        super().__init__(files, name)
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_proto=self.model)
        except (KeyError, RuntimeError) as error:
            raise DataError(f"vocabulary {name} is not a SentencePiece model: {error}") from None
        reserved = {
            "pad": self.processor.pad_id(),
            "eos": self.processor.eos_id(),
            "unk": self.processor.unk_id(),
        }
        expected = {"pad": PAD_ID, "eos": EOS_ID, "unk": UNK_ID}
        if reserved != expected:
            raise DataError(f"vocabulary {name} has ids {reserved}, but {expected} are required")
        self.mask_id = self.symbol_id(MASK)
        bos = self.processor.bos_id()
        self.bos_id = self.start_id = bos if bos >= 0 else EOS_ID
        self.hf_ids = np.arange(len(self), dtype=np.int32)

    @property
    def model(self) -> bytes:
        """The serialized ModelProto."""
        return self._files[MODEL_FILE]

    def __len__(self) -> int:
        return self.processor.get_piece_size()

    @functools.cached_property
    def control_ids(self) -> tuple[int, ...]:
        return tuple(i for i in range(len(self)) if self.processor.is_control(i))

    def encode(self, text: str) -> list[int]:
        return self.processor.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self.processor.decode([int(i) for i in ids if not self.processor.is_control(int(i))])

    def piece(self, index: int) -> str:
        return self.processor.id_to_piece(int(index))

    def piece_id(self, piece: str) -> int | None:
        index = self.processor.piece_to_id(piece)
        return None if index == UNK_ID else index
