"""Adapts vocabularies to SeqIO, which tokenizes inside a tf.data graph."""

import functools
import os
from collections.abc import Sequence

import numpy as np
import seqio
import tensorflow as tf
import tensorflow_text as tf_text

from denoise_jax.vocabulary.base import EOS_ID, UNK_ID, Vocabulary
from denoise_jax.vocabulary.load import load_vocabulary
from denoise_jax.vocabulary.sentencepiece import SentencePieceVocabulary


class SeqioVocabulary(seqio.Vocabulary):
    """A `Vocabulary` as SeqIO's features hold it.

    Constructed from a path, it reads the files at first use, so tasks can be registered before their
    vocabulary exists. Two of them are equal if their vocabularies have the same fingerprint, or if they have
    the same path and neither has been read.

    SentencePiece models are tokenized by the operation of tensorflow_text, as SeqIO does. Hugging Face's
    tokenizers are called through Python, once for all sentences of a document because the call holds the
    interpreter lock. It is declared stateless, so iterators over the dataset can be checkpointed.
    """

    def __init__(self, vocabulary: Vocabulary | str | os.PathLike):
        super().__init__()
        self._source = vocabulary if isinstance(vocabulary, Vocabulary) else os.fspath(vocabulary)

    @property
    def vocabulary(self) -> Vocabulary:
        """The adapted vocabulary; DataError if it has to be read first and cannot be."""
        if isinstance(self._source, str):
            self._source = load_vocabulary(self._source)
        return self._source

    @property
    def bos_id(self) -> int:
        return self.vocabulary.bos_id

    @property
    def eos_id(self) -> int:
        return EOS_ID

    @property
    def unk_id(self) -> int:
        return UNK_ID

    @property
    def _base_vocab_size(self) -> int:
        return len(self.vocabulary)

    def _encode(self, s: str) -> list[int]:
        return self.vocabulary.encode(s)

    def _decode(self, ids: Sequence[int]) -> str:
        return self.vocabulary.decode(ids)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor | tf.RaggedTensor:
        """Strings, scalar or [texts] → int32 ids [n], or ragged [texts, n]."""
        if isinstance(self.vocabulary, SentencePieceVocabulary):
            return self._sentencepiece().tokenize(s)

        def encode(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return self.vocabulary.encode_batch([text.decode("utf-8", errors="replace") for text in texts])

        s = tf.convert_to_tensor(s)
        flat = tf.reshape(s, [-1])
        ids, lengths = tf.numpy_function(encode, [flat], (tf.int32, tf.int64), stateful=False)
        ids.set_shape([None])
        lengths.set_shape([None])
        if s.shape.rank == 0:
            return ids
        if s.shape.rank != 1:
            raise ValueError(f"encode_tf takes a string or a vector of strings, not shape {s.shape}")
        return tf.RaggedTensor.from_row_lengths(ids, lengths, validate=False)

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        """int32 ids [n] or [texts, n] → strings, scalar or [texts]."""
        if isinstance(self.vocabulary, SentencePieceVocabulary):
            return self._sentencepiece().detokenize(ids)

        def decode(rows: np.ndarray) -> np.ndarray:
            texts = [self.vocabulary.decode(row).encode() for row in rows.reshape(-1, rows.shape[-1])]
            return np.array(texts, object)

        if isinstance(ids, tf.RaggedTensor):
            ids = ids.to_tensor()
        texts = tf.numpy_function(decode, [ids], tf.string, stateful=False)
        return tf.reshape(texts, tf.shape(ids)[:-1])

    def _sentencepiece(self) -> tf_text.SentencepieceTokenizer:
        return tf_text.SentencepieceTokenizer(model=self.vocabulary.model)  # a resource of the current graph

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SeqioVocabulary):
            return False
        if isinstance(self._source, str) and self._source == other._source:
            return True
        return self.vocabulary == other.vocabulary

    def __hash__(self) -> int:
        return hash(self.vocabulary)


def is_ours(vocabulary: seqio.Vocabulary) -> bool:
    """Whether `of_seqio` accepts a SeqIO vocabulary: not bytes, class labels and other kinds."""
    return isinstance(vocabulary, seqio.SentencePieceVocabulary | SeqioVocabulary)


def of_seqio(vocabulary: seqio.Vocabulary) -> Vocabulary:
    """The `Vocabulary` of a SeqIO vocabulary for which `is_ours` holds.

    Raises:
      DataError: its file cannot be used, such as a SentencePiece model with other reserved ids.
    """
    if isinstance(vocabulary, SeqioVocabulary):
        return vocabulary.vocabulary
    return _load_once(vocabulary.sentencepiece_model_file)


@functools.lru_cache(maxsize=8)
def _load_once(model_file: str) -> Vocabulary:
    """SeqIO caches its own models by path in the same way."""
    return load_vocabulary(model_file)
