"""A small vocabulary, one text under many keys, and the audit that every record must pass."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy import stats

from denoise_jax.corruption.record import Corruption, Noised, Op, TargetNoise, clean, split
from denoise_jax.corruption.symbols import Symbols

MASK = 4
ROTATION = 5
SEPARATOR = 6

SYMBOLS = Symbols(
    mask_token=MASK,
    vocab_size=1000,
    protected=(0, 1, 2, 3),  # padding, start, end, separator of documents
    rotation_token=ROTATION,
    separator=SEPARATOR,
    sentinels=tuple(range(900, 1000)),
    modes={"[R]": 800, "[S]": 801, "[X]": 802},
    word_starts=np.arange(1000) % 3 != 0,
)
"""Text ids are 7 to 799 and 803 to 899; those divisible by 3 do not begin a word."""


class Example(NamedTuple):
    """One example of a record, in NumPy; sources and sentence ids count from 1."""

    ids: np.ndarray
    source: np.ndarray
    span: np.ndarray
    op: np.ndarray
    targets: np.ndarray
    target_noise: np.ndarray
    outputs: np.ndarray
    output_source: np.ndarray
    sentence_ids: np.ndarray


def examples_of(noised: Noised) -> list[Example]:
    """The examples of a record."""
    ragged = split(noised) | {
        "sentence_ids": tf.RaggedTensor.from_row_lengths(
            noised.sentence_ids, noised.target_partition.row_lengths
        )
    }
    fields = [
        np.split(ragged[name].flat_values.numpy(), ragged[name].row_splits.numpy()[1:-1])
        for name in Example._fields
    ]
    examples = [Example(*values) for values in zip(*fields, strict=True)] if noised.partition.nrows else []
    return [one._replace(sentence_ids=one.sentence_ids - one.sentence_ids[:1] + 1) for one in examples]


def text_of(*lengths: int) -> Noised:
    """text_of(20) is 20 distinct tokens in one sentence; text_of(5, 3) has two sentences of these lengths."""
    ids = np.arange(10, 10 + sum(lengths), dtype=np.int32)
    sentence_ids = np.repeat(np.arange(1, len(lengths) + 1, dtype=np.int32), lengths)
    return clean(tf.constant(ids), tf.constant(sentence_ids))


def batch_of(texts, sentence_ids=None, **options) -> Noised:
    """The clean record of texts, and perhaps of their sentence ids, given as lists of lists."""
    ragged = [
        tf.ragged.constant(lists, tf.int32, ragged_rank=1)
        for lists in (texts, sentence_ids)
        if lists is not None
    ]
    return clean(*ragged, **options)


def draw_many(corruption: Corruption, noised: Noised, keys: int, seed: int = 0) -> list[Example]:
    """Applies `corruption` to a clean record of one text under `keys` different keys."""

    def copies(values):
        return tf.tile(values[tf.newaxis], [keys, 1])

    batch = clean(copies(noised.targets), copies(noised.sentence_ids))
    return examples_of(corruption(batch, tf.range(keys, dtype=tf.int64) + seed * 10**9))


def traced(corruption: Corruption) -> Callable[..., Noised]:
    """traced(corruption) is run(texts, keys, sentence_ids, steps), traced once for batches of any size.

    The arguments are lists with one entry per text (keys may be a tensor); sentence ids of each token and
    steps may be left out.
    """
    ragged, numbers = tf.RaggedTensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int64)
    corruption = tf.autograph.experimental.do_not_convert(corruption)  # as in the preprocessor

    @tf.function(input_signature=[ragged, ragged, numbers, numbers])
    def graph(texts, sentence_ids, steps, keys):
        return corruption(clean(texts, sentence_ids, steps), keys)

    def run(texts, keys, sentence_ids=None, steps=None):
        sentence_ids = [[0] * len(one) for one in texts] if sentence_ids is None else sentence_ids
        steps = [0] * len(texts) if steps is None else steps
        tensors = [tf.ragged.constant(lists, tf.int32, ragged_rank=1) for lists in (texts, sentence_ids)]
        return graph(*tensors, tf.constant(steps, tf.int64), tf.convert_to_tensor(keys, tf.int64))

    return run


def audit(example: Example) -> None:
    """Checks what a record promises after any chain: equal lengths, no zeros, replay, complete accounts."""
    assert all(field.dtype == np.int32 for field in example)
    assert len({len(field) for field in example[:4]}) == 1
    assert len(example.targets) == len(example.target_noise) == len(example.sentence_ids)
    assert len(example.outputs) == len(example.output_source)
    if 0 not in example.targets:
        assert all((field > 0).all() for field in example)
    written = np.where(example.op == Op.MASK, MASK, example.ids)
    replayed = np.where(example.op == Op.KEEP, np.append(example.targets, 0)[example.source - 1], written)
    np.testing.assert_array_equal(replayed, example.ids)
    kept = example.source[example.op == Op.KEEP]
    visible = 1 + np.flatnonzero(example.target_noise == TargetNoise.VISIBLE)
    np.testing.assert_array_equal(np.sort(kept), visible)
    deleted = np.sum(example.target_noise == TargetNoise.DELETED)
    assert np.sum(example.span - 1) == len(example.targets) - deleted
    masks = (example.op == Op.MASK) | (example.op == Op.RANDOM)
    assert (example.span[masks] >= 2).all()
    assert (example.target_noise[example.source[masks] - 1] == TargetNoise.COVERED).all()
    assert (example.span[example.op == Op.KEEP] == 2).all()
    assert (example.span[example.op == Op.INSERT] == 1).all()


def chi_square(counts, probabilities) -> float:
    """p-value of Pearson's test of counts against the given probabilities; one number means uniform."""
    counts = np.asarray(counts, np.float64)
    return stats.chisquare(counts, counts.sum() * np.broadcast_to(probabilities, counts.shape)).pvalue


def batch_of_lengths(lengths, **options) -> Noised:
    """The clean record of texts of these lengths, each of distinct tokens."""
    return batch_of([[*range(10, 10 + length)] for length in lengths], **options)


def keys_of(count: int, seed: int = 5) -> tf.Tensor:
    """Consecutive keys: int64 [count]."""
    return tf.range(count, dtype=tf.int64) + seed * 10**9


def random_texts(special, text, count: int = 100, longest: int = 12, seed: int = 0) -> list[list[int]]:
    """Random texts of 0 to `longest` tokens: of special ids only, of text ids only, or of both."""
    random = np.random.default_rng(seed)
    texts = []
    for share in random.choice([0.0, 0.3, 1.0], count, p=[0.3, 0.6, 0.1]):
        size = random.integers(0, longest + 1)
        is_special = random.random(size) < share
        ids = np.where(is_special, random.choice([*special], size), random.choice([*text], size))
        texts.append(ids.tolist())
    return texts
