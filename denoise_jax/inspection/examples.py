"""Noised examples as pieces of text with their provenance, for people to look at."""

import dataclasses
import os
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import seqio
import tensorflow as tf

from denoise_jax.corruption import presets, record
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.provenance import output_kinds
from denoise_jax.corruption.symbols import Symbols
from denoise_jax.data import registry
from denoise_jax.data.preprocessors import Reading, noise_symbols
from denoise_jax.data.sentence_splitting import split_sentences
from denoise_jax.errors import DataError
from denoise_jax.vocabulary.base import MODES, SENTINEL, Vocabulary
from denoise_jax.vocabulary.load import load_vocabulary
from denoise_jax.vocabulary.seqio import is_ours, of_seqio

# The reserved ids when words are the tokens; sentinels follow them.
_WORD_SPECIALS = ("<pad>", "</s>", "<unk>", "<s>", "<mask>", "<rotation>", "<sep>", *MODES)


@dataclasses.dataclass(frozen=True)
class NoisedExample:
    """One example: pieces of text with ▁ for a space, and what the noise did to each.

    The lists of a side have equal length. Positions in the clean text count from 1.
    """

    inputs: list[str]  # the corrupted text
    inputs_op: list[int]  # record.Op
    inputs_source: list[int]  # position in the clean text
    inputs_span: list[int]  # number of clean tokens it replaces, plus one
    text: list[str]  # the clean text
    text_noise: list[int]  # record.TargetNoise
    targets: list[str]  # what the decoder predicts
    targets_source: list[int]  # position in the clean text
    targets_kind: list[int]  # TargetKind


def corrupt(
    text: str,
    corruption: str = "bart_paper",
    *,
    vocabulary: Vocabulary | str | os.PathLike | None = None,
    seed: int = 0,
) -> NoisedExample:
    """Corrupts one text.

    Args:
      corruption: name of a preset in `corruption/presets.py`.
      vocabulary: tokenizes the text; an object or a path. Default: its words are the tokens.
      seed: key of the noise; the same seed gives the same example.

    Raises:
      DataError: the text has no visible character, the preset is unknown, or it cannot be built for the
        vocabulary.
    """
    try:
        return TokenizedText(text, vocabulary).corrupt(corruption, seed)
    except CorruptionError as error:
        raise DataError(str(error)) from None


class TokenizedText:
    """A text in tokens of a vocabulary, or in words, to which several presets can be applied."""

    def __init__(self, text: str, vocabulary: Vocabulary | str | os.PathLike | None = None):
        """DataError if the text has no visible character, or no token."""
        sentences = [
            s.decode() for s in split_sentences(tf.constant(text)).numpy() if _is_visible(s.decode())
        ]
        if not sentences:
            raise DataError("there is no text to corrupt")
        if vocabulary is None:
            words = [[f"▁{word}" for word in sentence.split() if _is_visible(word)] for sentence in sentences]
            distinct = sorted({word for sentence in words for word in sentence})
            specials = [*_WORD_SPECIALS, *map(SENTINEL.format, range(1 + sum(map(len, words))))]
            self._pieces = [*specials, *distinct]
            id_of = {word: i for i, word in enumerate(distinct, len(specials))}
            self._ids = [[id_of[word] for word in sentence] for sentence in words]
            self._symbols = _word_symbols(self._pieces, len(specials))
        else:
            if not isinstance(vocabulary, Vocabulary):
                vocabulary = load_vocabulary(vocabulary)
            self._pieces = [vocabulary.piece(i) for i in range(len(vocabulary))]
            spaced = [sentences[0], *(f" {sentence}" for sentence in sentences[1:])]
            self._ids = [vocabulary.encode(sentence) for sentence in spaced]
            self._symbols = noise_symbols(vocabulary)
        self._ids = [sentence for sentence in self._ids if sentence]
        if not self._ids:
            raise DataError("there is no text to corrupt")

    def corrupt(self, corruption: str, seed: int) -> NoisedExample:
        """The text under a preset; CorruptionError if the preset is unknown or cannot be built."""
        flat = [token for sentence in self._ids for token in sentence]
        sentence_ids = [index for index, sentence in enumerate(self._ids) for _ in sentence]
        apply = presets.build(corruption, self._symbols, max_tokens=max(2, len(flat)))
        clean = record.clean(tf.constant(flat), tf.constant(sentence_ids))
        noised = apply(clean, tf.constant([seed], tf.int64))

        def pieces(ids: tf.Tensor) -> list[str]:
            return [self._pieces[i] for i in ids.numpy()]

        def integers(column: tf.Tensor) -> list[int]:
            return column.numpy().tolist()

        return NoisedExample(
            inputs=pieces(noised.ids),
            inputs_op=integers(noised.op),
            inputs_source=integers(noised.source),
            inputs_span=integers(noised.span),
            text=pieces(noised.targets),
            text_noise=integers(noised.target_noise),
            targets=pieces(noised.outputs),
            targets_source=integers(noised.output_source),
            targets_kind=integers(output_kinds(noised)),
        )


def read_examples(
    task: str,
    split: str = "train",
    *,
    task_modules: Sequence[str] = ("tasks",),
    max_examples: int = 3,
    length: int = 64,
    seed: int = 0,
) -> list[NoisedExample]:
    """The first examples of a task's split under its own noise.

    Args:
      task: name of a task or mixture, registered by one of `task_modules`.
      length: maximum chunk length in tokens, including special tokens.
      seed: seed of the noise.

    Raises:
      DataError: the task or split does not exist, or its examples have no noise or no text.
    """
    found = registry.find_task(task, task_modules)
    vocabulary = text_vocabulary(found)
    dataset = noised_dataset(found, split, input_length=2 * length, length=length, seed=seed)
    examples = list(_noised_examples(dataset.take(max_examples), vocabulary))
    if not examples:
        raise DataError(f"split {split!r} of task {task!r} has no text to corrupt")
    return examples


def noised_dataset(
    task: seqio.Task | seqio.Mixture, split: str, *, input_length: int, length: int, seed: int
) -> tf.data.Dataset:
    """Examples of a split in order, with provenance and clean text; DataError if the task has no noise."""
    (dataset,) = registry.open_shards(
        task,
        split,
        [0],
        lengths={"inputs": input_length, "targets": length},
        num_shards=1,
        seed=seed,
        training=False,
        reading=Reading(with_text=True),
    )
    if "inputs_op" not in dataset.element_spec:
        raise DataError(f"task {task.name!r} has no noise to inspect: its examples lack `inputs_op`")
    return dataset


def text_vocabulary(task: seqio.Task | seqio.Mixture) -> Vocabulary:
    """The vocabulary of a task's targets; DataError if they are not text, such as class labels."""
    vocabulary = task.output_features["targets"].vocabulary
    if not is_ours(vocabulary):
        raise DataError(f"task {task.name!r}: a {type(vocabulary).__name__} has no pieces of text to show")
    return of_seqio(vocabulary)


def _noised_examples(dataset: tf.data.Dataset, vocabulary: Vocabulary) -> Iterator[NoisedExample]:
    pieces = [vocabulary.piece(i) for i in range(len(vocabulary))]
    for example in dataset.as_numpy_iterator():
        fields = {field.name: example[field.name].tolist() for field in dataclasses.fields(NoisedExample)}
        for side in ("inputs", "text", "targets"):
            fields[side] = [pieces[i] for i in fields[side]]
        yield NoisedExample(**fields)


def _is_visible(text: str) -> bool:
    """Whether a text has any character besides white space and zero-width characters."""
    return any(not one.isspace() and unicodedata.category(one) != "Cf" for one in text)


def _word_symbols(pieces: Sequence[str], reserved: int) -> Symbols:
    id_of = {piece: i for i, piece in enumerate(pieces[:reserved])}
    return Symbols(
        mask_token=id_of["<mask>"],
        vocab_size=len(pieces),
        protected=tuple(range(reserved)),
        rotation_token=id_of["<rotation>"],
        sentinels=tuple(i for piece, i in id_of.items() if piece.startswith("<extra_id_")),
        modes={name: id_of[name] for name in MODES},
        word_starts=np.ones(len(pieces), bool),
    )
