"""A small vocabulary, windows of one text under many keys, and the audit that every record must pass."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption.record import Noised, Op, TargetNoise, clean, split
from denoise_jax.corruption.symbols import Symbols

MASK = 4
PROTECTED = (0, 1, 2, 3)  # padding, start, end, separator of documents


class Example(NamedTuple):
    """One example of a record, in NumPy; sources count from 1."""

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
    columns = {name: values.numpy() for name, values in split(noised).items()}
    sentences = tf.RaggedTensor.from_row_lengths(
        noised.sentence_ids, noised.target_partition.row_lengths
    ).numpy()
    count = int(noised.partition.nrows)
    rows = [Example(*(columns[name][i] for name in Example._fields[:-1]), sentences[i]) for i in range(count)]
    return [
        row._replace(sentence_ids=row.sentence_ids - min(row.sentence_ids, default=1) + 1) for row in rows
    ]


@pytest.fixture(scope="session")
def symbols() -> Symbols:
    """Ids 0 to 3 protected, 4 the mask, 5 marks a rotation, 6 ends sentences, 900 to 999 are sentinels.

    Ids from 10 to 799 are text; those divisible by 3 begin no word.
    """
    return Symbols(
        mask_token=MASK,
        vocab_size=1000,
        protected=PROTECTED,
        rotation_token=5,
        separator=6,
        sentinels=tuple(range(900, 1000)),
        modes={"[R]": 800, "[S]": 801, "[X]": 802},
        word_starts=np.arange(1000) % 3 != 0,
    )


@pytest.fixture(scope="session")
def text() -> Callable[..., Noised]:
    """text(20) is 20 distinct tokens in one sentence; text(5, 3, 4) is three sentences of those lengths."""

    def build(*lengths: int) -> Noised:
        ids = np.arange(10, 10 + sum(lengths), dtype=np.int32)
        return clean(
            tf.constant(ids), tf.constant(np.repeat(np.arange(1, len(lengths) + 1), lengths), tf.int32)
        )

    return build


@pytest.fixture(scope="session")
def examples() -> Callable[[Noised], list[Example]]:
    """examples(record) is the list of its examples, in NumPy."""
    return examples_of


@pytest.fixture(scope="session")
def draw_many() -> Callable[..., list[Example]]:
    """draw_many(corruption, clean record of one text, keys) is that text under each of that many keys."""

    def run(corruption, noised: Noised, keys: int, seed: int = 0) -> list[Example]:
        def copies(values):
            return tf.RaggedTensor.from_row_lengths(
                tf.tile(values, [keys]), tf.fill([keys], tf.size(values, tf.int64))
            )

        window = clean(copies(noised.targets), copies(noised.sentence_ids))
        return examples_of(corruption(window, tf.range(keys, dtype=tf.int64) + seed * 10**9))

    return run


@pytest.fixture(scope="session")
def traced() -> Callable[..., Callable[..., Noised]]:
    """traced(corruption) is run(texts, keys, sentences, steps), traced once for windows of any size.

    The arguments are lists, one entry for each text, and `keys` a tensor perhaps; sentences (of each token)
    and steps may be left out.
    """

    def trace(corruption):
        ragged, numbers = tf.RaggedTensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int64)
        corruption = tf.autograph.experimental.do_not_convert(corruption)  # as in the preprocessor

        @tf.function(input_signature=[ragged, ragged, numbers, numbers])
        def graph(texts, sentences, steps, keys):
            return corruption(clean(texts, sentences, steps), keys)

        def run(texts, keys, sentences=None, steps=None):
            sentences = [[0] * len(one) for one in texts] if sentences is None else sentences
            steps = [0] * len(texts) if steps is None else steps
            rows = [tf.ragged.constant(lists, tf.int32, ragged_rank=1) for lists in (texts, sentences)]
            return graph(*rows, tf.constant(steps, tf.int64), tf.convert_to_tensor(keys, tf.int64))

        return run

    return trace


@pytest.fixture(scope="session")
def audit() -> Callable[[Example], None]:
    """Checks what the record promises after any chain: replay, whole accounts, no zeros, equal lengths."""

    def check(row: Example) -> None:
        assert all(column.dtype == np.int32 for column in row)
        assert len({len(column) for column in row[:4]}) == 1
        assert len(row.targets) == len(row.target_noise) == len(row.sentence_ids)
        assert len(row.outputs) == len(row.output_source)
        if 0 not in row.targets:
            assert all((column > 0).all() for column in row)
        written = np.where(row.op == Op.MASK, MASK, row.ids)
        replayed = np.where(row.op == Op.KEEP, np.append(row.targets, 0)[row.source - 1], written)
        np.testing.assert_array_equal(replayed, row.ids)
        kept = row.source[row.op == Op.KEEP]
        visible = 1 + np.flatnonzero(row.target_noise == TargetNoise.VISIBLE)
        np.testing.assert_array_equal(np.sort(kept), visible)
        deleted = np.sum(row.target_noise == TargetNoise.DELETED)
        assert np.sum(row.span - 1) == len(row.targets) - deleted
        masks = (row.op == Op.MASK) | (row.op == Op.RANDOM)
        assert (row.span[masks] >= 2).all()
        assert (row.target_noise[row.source[masks] - 1] == TargetNoise.COVERED).all()
        assert (row.span[row.op == Op.KEEP] == 2).all()
        assert (row.span[row.op == Op.INSERT] == 1).all()

    return check


@pytest.fixture(scope="session")
def chi_square() -> Callable[[np.ndarray, np.ndarray], float]:
    """p-value of Pearson's test: the chance of counts at least as far from the given probabilities."""

    def p_value(counts, probabilities) -> float:
        counts = np.asarray(counts, np.float64)
        expected = counts.sum() * np.broadcast_to(probabilities, counts.shape)
        statistic = np.sum((counts - expected) ** 2 / expected)
        return float(tf.math.igammac(tf.constant((len(counts) - 1) / 2, tf.float64), statistic / 2))

    return p_value
