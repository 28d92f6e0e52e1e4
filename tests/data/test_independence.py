"""Two data shards, two tasks and neighbours in a stream: the same text again and again, with unrelated noise.

SeqIO alone gives the same seed to an example's position in every shard and every task. Seeds are fixed; the
false-alarm rates say how surprising a failure after a change would be.
"""

import collections
import math

import numpy as np
import pytest

from denoise_jax.corruption.record import TargetNoise
from denoise_jax.data.preprocessors import EXAMPLES_PER_BATCH
from tests.data.helpers import read_task, text_task

COUNT = 33 * EXAMPLES_PER_BATCH  # 2112 examples in each stream
TEXT = "We meet tonight at a crossroads. The union is strong. Let us go on together. Our work is not done."
LAGS = (-EXAMPLES_PER_BATCH, -2, -1, 0, 1, 2, EXAMPLES_PER_BATCH)


def _read(name, preset, vocabulary_folder, shard):
    """(not visible: bool [e, m], corrupted texts) of one of the two shards of a task."""

    task = text_task(name, [TEXT] * (2 * COUNT), vocabulary_folder, preset)
    options = {"limit": 128, "input_limit": 256, "num_shards": 2, "seed": 7}
    examples = read_task(task, shard=shard, with_text=True, **options)
    assert len({example["text"].tobytes() for example in examples}) == 1
    noise = np.stack([example["text_noise"] for example in examples]) != TargetNoise.VISIBLE
    return noise, [example["inputs"].tobytes() for example in examples]


@pytest.fixture(
    scope="module",
    params=["bart_paper", pytest.param("token_deletion", marks=pytest.mark.slow)],
)
def streams(request, vocabulary_folder):
    """What was read, by (task, shard)."""
    pairs = (("a", 0), ("a", 1), ("b", 0))
    return {pair: _read(pair[0], request.param, vocabulary_folder, pair[1]) for pair in pairs}


def _lagged(first, second, lag):
    """Example k of the first stream beside example k + lag of the second, as far as both go."""
    return first[max(-lag, 0) : len(first) - max(lag, 0)], second[max(lag, 0) : len(second) - max(-lag, 0)]


def _correlation(first, second):
    """z of the correlation of two streams' columns [e, m]: of C_k = sum_i (x_ki - mean_i)(y_ki - mean_i)."""
    products = ((first - first.mean(0)) * (second - second.mean(0))).sum(1)
    return products.sum() / math.sqrt((products**2).sum())


def _coincidences(first, second):
    """z of the number of equal examples in both streams, under random pairing."""
    equal = sum(a == b for a, b in zip(first, second, strict=True))
    counts = collections.Counter(second)
    expected = sum(counts[text] for text in first) / len(second)
    return (equal - expected) / math.sqrt(expected + 1)


@pytest.mark.parametrize(
    "pair", [(("a", 0), ("a", 1)), (("a", 0), ("b", 0)), (("a", 0), ("a", 0))], ids=["shards", "tasks", "one"]
)
def test_streams_of_noise_are_unrelated(streams, pair):
    """All |z| of 7 lags below 5.5, for two measures: a false alarm in 1 of 1.9 million sets of seeds for each
    preset and pair; in 1 of 130,000 where few coincidences are expected (one, and nine are found)."""
    (first, first_texts), (second, second_texts) = (streams[name] for name in pair)
    assert first.shape[0] == second.shape[0] == COUNT
    for lag in LAGS:
        columns, texts = _lagged(first, second, lag), _lagged(first_texts, second_texts, lag)
        if pair[0] == pair[1] and lag == 0:  # a stream depends on itself
            assert min(_correlation(*columns), _coincidences(*texts)) > 30
            continue
        assert abs(_correlation(*columns)) < 5.5
        assert abs(_coincidences(*texts)) < 5.5
