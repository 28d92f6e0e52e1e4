"""Cached attention against `attend`."""

import jax.numpy as jnp
import numpy as np

from denoise_jax.generation.cache import attend_cached
from denoise_jax.model.attention import attend


def test_cached_attention_equals_attention_over_the_visible_keys():
    """Two prompts with three rows each, whose keys are padded: 5 of 7 are real in the second prompt."""
    random = np.random.default_rng(0)
    query_BNHK, key_BSHK, value_BSHK = (
        jnp.asarray(random.standard_normal((2, n, 4, 8)), jnp.float32) for n in (3, 7, 7)
    )
    mask_BS = jnp.arange(7)[None] < jnp.asarray([[7], [5]])
    got_BNHK = attend_cached(
        query_BNHK, key_BSHK.transpose(0, 2, 3, 1), value_BSHK.transpose(0, 2, 1, 3), mask_BS[:, None]
    )
    segments = jnp.ones((2, 3), jnp.int32), mask_BS.astype(jnp.int32)
    expected_BNHK = attend(query_BNHK, key_BSHK, value_BSHK, *segments, causal=False)
    np.testing.assert_allclose(got_BNHK, expected_BNHK, rtol=1e-5, atol=1e-6)


def test_a_row_that_sees_no_slot_gets_zeros():
    ones_GHKP, ones_GHPK = jnp.ones((1, 2, 4, 3)), jnp.ones((1, 2, 3, 4))
    mask_GnP = jnp.asarray([[[False] * 3, [True] * 3]])
    got_GnHK = attend_cached(jnp.ones((1, 2, 2, 4)), ones_GHKP, ones_GHPK, mask_GnP)
    assert not got_GnHK[0, 0].any()
    np.testing.assert_allclose(got_GnHK[0, 1], 1, rtol=1e-6)
