"""Noised examples as pieces of text with their provenance, for people to look at."""

import dataclasses
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
from denoise_jax.vocabulary.seqio import is_ours, of_seqio

# The reserved ids when words are the tokens; sentinels follow them.
_WORD_SPECIALS = ("<pad>", "</s>", "<unk>", "<s>", "<mask>", "<rotation>", "<sep>", *MODES)


@dataclasses.dataclass(frozen=True)
class Seen:
    """One example: pieces with ▁ for a space, and what the noise did. Lists of one side have one length."""

    inputs: list[str]  # the corrupted text
    inputs_op: list[int]  # record.Op
    inputs_source: list[int]  # position in the text, from 1
    inputs_span: list[int]  # tokens stood for, plus one
    text: list[str]  # the clean text
    text_noise: list[int]  # record.TargetNoise
    targets: list[str]  # what the decoder writes
    targets_source: list[int]  # position in the text, from 1
    targets_kind: list[int]  # kinds.TargetKind


class TextNoise:
    """Puts presets on one text, in tokens of a vocabulary, or in words where there is none."""

    def __init__(self, text: str, vocabulary: Vocabulary | None = None):
        """Raises DataError for a text of which nothing is seen, or that gives no token."""
        sentences = [s.decode() for s in split_sentences(tf.constant(text)).numpy() if _shows(s.decode())]
        if not sentences:
            raise DataError("there is no text to corrupt")
        if vocabulary is None:
            words = [[f"▁{word}" for word in sentence.split() if _shows(word)] for sentence in sentences]
            known = sorted({word for sentence in words for word in sentence})
            specials = [*_WORD_SPECIALS, *map(SENTINEL.format, range(1 + sum(map(len, words))))]
            self._pieces = [*specials, *known]
            number = {word: i for i, word in enumerate(known, len(specials))}
            self._ids = [[number[word] for word in sentence] for sentence in words]
            self.symbols = _word_symbols(self._pieces, len(specials))
        else:
            self._pieces = [vocabulary.piece(i) for i in range(len(vocabulary))]
            spaced = [sentences[0], *(f" {sentence}" for sentence in sentences[1:])]
            self._ids = [vocabulary.encode(sentence) for sentence in spaced]
            self.symbols = noise_symbols(vocabulary)
        self._ids = [sentence for sentence in self._ids if sentence]
        if not self._ids:
            raise DataError("there is no text to corrupt")

    def under(self, corruption: str, seed: int) -> Seen:
        """The text under preset `corruption`; DataError if the preset is unknown or cannot be built."""
        flat = [token for sentence in self._ids for token in sentence]
        sentence_ids = [number for number, sentence in enumerate(self._ids, 1) for _ in sentence]
        try:
            apply = presets.build(corruption, self.symbols, max_tokens=max(2, len(flat)))
        except CorruptionError as error:
            raise DataError(f"--corruption {corruption}: {error}") from None
        clean = record.clean(tf.constant(flat), tf.constant(sentence_ids))
        noised = apply(clean, tf.constant([seed], tf.int64))

        def pieces(ids: tf.Tensor) -> list[str]:
            return [self._pieces[i] for i in ids.numpy()]

        def numbers(column: tf.Tensor) -> list[int]:
            return column.numpy().tolist()

        return Seen(
            inputs=pieces(noised.ids),
            inputs_op=numbers(noised.op),
            inputs_source=numbers(noised.source),
            inputs_span=numbers(noised.span),
            text=pieces(noised.targets),
            text_noise=numbers(noised.target_noise),
            targets=pieces(noised.outputs),
            targets_source=numbers(noised.output_source),
            targets_kind=numbers(output_kinds(noised)),
        )


def _shows(text: str) -> bool:
    """Whether anything of a text is seen: it is more than white space and zero-width characters."""
    return any(not one.isspace() and unicodedata.category(one) != "Cf" for one in text)


def _word_symbols(pieces: Sequence[str], reserved: int) -> Symbols:
    number = {piece: i for i, piece in enumerate(pieces[:reserved])}
    return Symbols(
        mask_token=number["<mask>"],
        vocab_size=len(pieces),
        protected=tuple(range(reserved)),
        rotation_token=number["<rotation>"],
        sentinels=tuple(i for piece, i in number.items() if piece.startswith("<extra_id_")),
        modes={name: number[name] for name in MODES},
        word_starts=np.ones(len(pieces), bool),
    )


def vocabulary_of(task: seqio.Task | seqio.Mixture) -> Vocabulary:
    """The vocabulary of a task's targets; DataError where they have no pieces of text to show."""
    vocabulary = task.output_features["targets"].vocabulary
    if not is_ours(vocabulary):
        raise DataError(f"task {task.name!r}: a {type(vocabulary).__name__} has no pieces of text to show")
    return of_seqio(vocabulary)


def from_task(
    name: str, modules: Sequence[str], split: str, *, length: int, count: int, seed: int
) -> Iterator[Seen]:
    """The first `count` examples of a task's split as training would see them, cut to `length` tokens."""
    task = registry.find_task(name, modules)
    vocabulary = vocabulary_of(task)
    lengths = {"inputs": 2 * length, "targets": length}
    examples = registry.open_shard(
        task,
        split,
        lengths=lengths,
        num_shards=1,
        seed=seed,
        training=False,
        how=Reading(with_text=True),
    )
    pieces = [vocabulary.piece(i) for i in range(len(vocabulary))]
    for example in examples.take(count).as_numpy_iterator():
        if "inputs_op" not in example:
            raise DataError(f"task {name!r} has no noise to show: its examples lack `inputs_op`")
        fields = {field.name: example[field.name].tolist() for field in dataclasses.fields(Seen)}
        for side in ("inputs", "text", "targets"):
            fields[side] = [pieces[i] for i in fields[side]]
        yield Seen(**fields)
