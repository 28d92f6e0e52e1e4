"""Vocabularies as SeqIO sees them: text to ids inside a tf.data graph."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import seqio
import tensorflow as tf

from denoise_jax.vocabulary.base import EOS_ID, MODEL_FILE, TOKENIZER_FILE, UNK_ID, Vocabulary
from denoise_jax.vocabulary.load import load_vocabulary
from denoise_jax.vocabulary.tokenizers import TokenizersVocabulary


def seqio_vocabulary(path: str | os.PathLike) -> seqio.Vocabulary:
    """What SeqIO sees of the vocabulary at `path`, a folder or .model file, which is read when needed."""
    path = Path(path)
    if (path / TOKENIZER_FILE).is_file() and not (path / MODEL_FILE).is_file():
        return _of_tokenizers(str(path))
    return _of_sentencepiece(str(path if path.suffix == ".model" else path / MODEL_FILE))


@functools.lru_cache(maxsize=8)
def _of_sentencepiece(file: str) -> seqio.SentencePieceVocabulary:
    return seqio.SentencePieceVocabulary(file)


@functools.lru_cache(maxsize=8)
def _of_tokenizers(folder: str) -> "SeqioTokenizers":
    return SeqioTokenizers(TokenizersVocabulary(folder))


def is_ours(vocabulary: seqio.Vocabulary) -> bool:
    """Whether `of_seqio` can tell what is behind it: not so of bytes, of class labels and their kin."""
    return isinstance(vocabulary, seqio.SentencePieceVocabulary | SeqioTokenizers)


def of_seqio(vocabulary: seqio.Vocabulary) -> Vocabulary:
    """The vocabulary behind what SeqIO sees, for which `is_ours` holds; DataError if its file is unfit."""
    if isinstance(vocabulary, SeqioTokenizers):
        return vocabulary.own
    return load_vocabulary(vocabulary.sentencepiece_model_file)


class SeqioTokenizers(seqio.Vocabulary):
    """A `TokenizersVocabulary` for SeqIO; equal to others of the same fingerprint.

    In a graph the library is called through Python, which holds the interpreter for the call, so all texts
    of a document go in one. The call keeps no state, and says so: positions in the data can be saved.
    """

    def __init__(self, own: TokenizersVocabulary):
        super().__init__()
        self.own = own
        self._fingerprint = own.fingerprint()

    @property
    def bos_id(self) -> int:
        return self.own.bos_id

    @property
    def eos_id(self) -> int:
        return EOS_ID

    @property
    def unk_id(self) -> int:
        return UNK_ID

    @property
    def _base_vocab_size(self) -> int:
        return len(self.own)

    def _encode(self, s: str) -> list[int]:
        return self.own.encode(s)

    def _decode(self, ids: Sequence[int]) -> str:
        return self.own.decode(ids)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor | tf.RaggedTensor:
        """Strings, scalar or [texts] → int32 ids [n], or ragged [texts, n]."""

        def encode(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return self.own.encode_batch([text.decode("utf-8", errors="replace") for text in texts])

        s = tf.convert_to_tensor(s)
        flat = tf.reshape(s, [-1])
        ids, lengths = tf.numpy_function(encode, [flat], (tf.int32, tf.int64), stateful=False)
        ids.set_shape([None])
        lengths.set_shape([None])
        if s.shape.rank == 0:
            return ids
        if s.shape.rank != 1:
            raise ValueError(f"encode_tf takes a string or a vector of them, not shape {s.shape}")
        return tf.RaggedTensor.from_row_lengths(ids, lengths, validate=False)

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        """int32 ids [n] or [texts, n] → strings, scalar or [texts]."""

        def decode(rows: np.ndarray) -> np.ndarray:
            return np.array(
                [self.own.decode(row).encode() for row in rows.reshape(-1, rows.shape[-1])], object
            )

        if isinstance(ids, tf.RaggedTensor):
            ids = ids.to_tensor()
        texts = tf.numpy_function(decode, [ids], tf.string, stateful=False)
        return tf.reshape(texts, tf.shape(ids)[:-1])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SeqioTokenizers) and self._fingerprint == other._fingerprint

    def __hash__(self) -> int:
        return hash(self._fingerprint)
