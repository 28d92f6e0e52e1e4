"""A small vocabulary, runs of one corruption under many keys, and the audit that every record must pass."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption.record import Noised, Op, Symbols, TargetNoise, clean, replay

MASK = 4
PROTECTED = (0, 1, 2, 3)  # padding, start, end, separator


@pytest.fixture(scope="session")
def symbols() -> Symbols:
    return Symbols(mask_token=MASK, vocab_size=1000, protected=PROTECTED)


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
def draw_many() -> Callable[..., list[Noised]]:
    """draw_many(corruption, record, keys) is the record, in NumPy, under each of that many different keys."""

    def run(corruption, noised: Noised, keys: int, seed: int = 0) -> list[Noised]:
        examples = tf.data.Dataset.range(keys).map(
            lambda i: Noised(*corruption(noised, tf.stack([seed + 1, i])))
        )
        return [Noised(*columns) for columns in examples.as_numpy_iterator()]

    return run


@pytest.fixture(scope="session")
def audit() -> Callable[[Noised], None]:
    """Checks what the record promises after any chain: replay, whole accounts, no zeros, equal lengths."""

    def check(noised: Noised) -> None:
        noised = Noised(*(np.asarray(column) for column in noised))
        assert all(column.dtype == np.int32 for column in noised)
        assert len({len(column) for column in noised[:4]}) == 1
        assert len({len(column) for column in noised[4:]}) == 1
        if 0 not in noised.targets:
            assert all((column > 0).all() for column in noised)
        np.testing.assert_array_equal(replay(Noised(*map(tf.constant, noised)), MASK), noised.ids)
        kept = noised.source[noised.op == Op.KEEP]
        visible = 1 + np.flatnonzero(noised.target_noise == TargetNoise.VISIBLE)
        np.testing.assert_array_equal(np.sort(kept), visible)
        deleted = np.sum(noised.target_noise == TargetNoise.DELETED)
        assert np.sum(noised.span - 1) == len(noised.targets) - deleted
        masks = noised.op == Op.MASK
        assert (noised.span[masks] >= 2).all()
        assert (noised.target_noise[noised.source[masks] - 1] == TargetNoise.HIDDEN).all()
        assert (noised.span[noised.op == Op.KEEP] == 2).all()
        assert (noised.span[noised.op == Op.INSERT] == 1).all()

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
