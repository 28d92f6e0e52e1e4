"""Noised examples as pieces of text with their provenance, for people to look at."""

import dataclasses
from collections.abc import Iterator, Sequence

import seqio
import tensorflow as tf

from denoise_jax.corruption import presets, record
from denoise_jax.data import tasks
from denoise_jax.data.sentences import split_sentences
from denoise_jax.data.vocabulary import Vocabulary
from denoise_jax.errors import DataError

_WORD_SPECIALS = ("<pad>", "</s>", "<unk>", "<s>", "<mask>")  # the reserved ids when words are the tokens


@dataclasses.dataclass(frozen=True)
class Seen:
    """One example: pieces with ▁ for a space, and what the noise did. Lists of equal length, side by side."""

    inputs: list[str]
    inputs_op: list[int]  # record.Op
    inputs_source: list[int]  # 1-based target position
    inputs_span: list[int]  # tokens stood for, plus one
    targets: list[str]
    targets_noise: list[int]  # record.TargetNoise


def from_text(text: str, corruption: str, vocabulary: Vocabulary | None, seed: int) -> Seen:
    """Puts preset `corruption` on a text, in tokens of `vocabulary`, or in words where there is none."""
    sentences = [s.decode() for s in split_sentences(tf.constant(text)).numpy()]
    if not sentences:
        raise DataError("there is no text to corrupt")
    if vocabulary is None:
        words = [[f"▁{word}" for word in sentence.split()] for sentence in sentences]
        pieces = [*_WORD_SPECIALS, *sorted({word for sentence in words for word in sentence})]
        ids = [[pieces.index(word) for word in sentence] for sentence in words]
        symbols = record.Symbols(mask_token=4, vocab_size=len(pieces), protected=(0, 1, 2, 3))
    else:
        pieces = [vocabulary.piece(i) for i in range(len(vocabulary))]
        ids = [vocabulary.encode(sentence) for sentence in sentences]
        symbols = record.Symbols(vocabulary.mask_id, len(vocabulary), vocabulary.control_ids)
    flat = [token for sentence in ids for token in sentence]
    sentence_ids = [number for number, sentence in enumerate(ids, 1) for _ in sentence]
    try:
        apply = presets.build(corruption, symbols)
    except record.CorruptionError as error:
        raise DataError(f"--corruption: {error}") from None
    noised = apply(
        record.clean(tf.constant(flat), tf.constant(sentence_ids)), tf.constant([seed, 0], tf.int64)
    )
    return Seen(
        [pieces[i] for i in noised.ids.numpy()],
        noised.op.numpy().tolist(),
        noised.source.numpy().tolist(),
        noised.span.numpy().tolist(),
        [pieces[i] for i in noised.targets.numpy()],
        noised.target_noise.numpy().tolist(),
    )


def from_task(
    name: str, modules: Sequence[str], split: str, *, length: int, count: int, seed: int
) -> Iterator[Seen]:
    """The first `count` examples of a task's split as training would see them, cut to `length` tokens."""
    task = tasks.find(name, modules)
    feature: seqio.Feature = task.output_features["targets"]
    vocabulary = Vocabulary(feature.vocabulary.sentencepiece_model_file)
    lengths = {"inputs": 2 * length, "targets": length}
    examples = tasks.open_shard(
        task, split, lengths=lengths, shard=0, num_shards=1, seed=seed, training=False
    )
    for example in examples.take(count).as_numpy_iterator():
        yield Seen(
            [vocabulary.piece(i) for i in example["inputs"]],
            example["inputs_op"].tolist(),
            example["inputs_source"].tolist(),
            example["inputs_span"].tolist(),
            [vocabulary.piece(i) for i in example["targets"]],
            example["targets_noise"].tolist(),
        )
