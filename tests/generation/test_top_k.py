"""top-k, top-p and categorical sampling against sorting."""

import jax.numpy as jnp
import numpy as np

from denoise_jax.generation.top_k import sample_categorical, top_k, top_p_mask


def test_top_k_equals_a_stable_sort():
    """With ties, which are common in bfloat16, and sizes that the group size does not divide."""
    random = np.random.default_rng(0)
    for columns, k in ((640, 8), (37, 5), (200, 200), (64, 1)):
        values_VBN = random.integers(0, 30, (columns, 2, 3)).astype(np.float32)
        values_VBN[random.random(values_VBN.shape) < 0.2] = -np.inf
        values_BNk, tokens_BNk = top_k(jnp.asarray(values_VBN), k)
        order = np.moveaxis(np.argsort(-values_VBN, axis=0, kind="stable")[:k], 0, -1)
        np.testing.assert_array_equal(tokens_BNk, order)
        expected = np.take_along_axis(np.moveaxis(values_VBN, 0, -1), order, axis=-1)
        np.testing.assert_array_equal(values_BNk, expected)


def test_top_p_by_bisection_equals_top_p_by_sorting():
    random = np.random.default_rng(1)
    weights_VBN = np.exp(4 * random.standard_normal((500, 2, 3))).astype(np.float32)
    weights_VBN /= weights_VBN.max(axis=0)
    weights_VBN[:100] = 0
    for top_p in (1e-6, 0.3, 0.9, 0.999):
        kept_VBN = np.asarray(top_p_mask(jnp.asarray(weights_VBN), top_p))
        ordered = -np.sort(-weights_VBN.astype(np.float64), axis=0)
        count_BN = (np.cumsum(ordered, axis=0) - ordered < top_p * ordered.sum(axis=0)).sum(axis=0)
        np.testing.assert_array_equal(kept_VBN.sum(axis=0), count_BN)
        assert (weights_VBN[kept_VBN].min() > 0) and kept_VBN.any(axis=0).all()
        assert np.where(kept_VBN, weights_VBN, 2).min(axis=0).min() > 0


def test_extreme_draws_have_a_positive_weight():
    weights_VBN = np.zeros((300, 1, 4), np.float32)
    weights_VBN[[7, 130, 131, 299]] = 1e-3
    uniform_BN = jnp.asarray([[0.0, 0.25, 0.75, np.nextafter(np.float32(1), np.float32(0))]], jnp.float32)
    assert sample_categorical(jnp.asarray(weights_VBN), uniform_BN).tolist() == [[7, 130, 299, 299]]
