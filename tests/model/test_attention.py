"""`attend` against a loop over queries in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.model.attention import attend

# B batch, T query positions, S key positions, H heads, K head width.
QUERY_SEGMENTS_BT = np.array([[1, 1, 2, 2, 3, 0], [1, 1, 1, 1, 1, 1]], np.int32)
KEY_SEGMENTS_BS = np.array([[1, 2, 2, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0]], np.int32)


@pytest.fixture
def inputs():
    draw = np.random.default_rng(1).standard_normal
    return tuple(draw((2, length, 3, 4)).astype(np.float32) for length in (6, 7, 7))


def looped(query_BTHK, key_BSHK, value_BSHK, query_segments_BT, key_segments_BS, causal):
    """Attention of one query at a time over the keys it may see; zeros if there are none."""
    output_BTHK = np.zeros_like(query_BTHK)
    for b, t, h in np.ndindex(query_BTHK.shape[:3]):
        segment = query_segments_BT[b, t]
        seen = [
            s
            for s, other in enumerate(key_segments_BS[b])
            if other == segment != 0 and not (causal and s > t)
        ]
        if seen:
            scores = key_BSHK[b, seen, h] @ query_BTHK[b, t, h] / np.sqrt(query_BTHK.shape[-1])
            weights = np.exp(scores - scores.max())
            output_BTHK[b, t, h] = weights @ value_BSHK[b, seen, h] / weights.sum()
    return output_BTHK


@pytest.mark.parametrize("causal", [False, True])
def test_equals_a_loop_over_queries(inputs, causal):
    segments = QUERY_SEGMENTS_BT, KEY_SEGMENTS_BS
    expected_BTHK = looped(*inputs, *segments, causal)
    got_BTHK = attend(*map(jnp.asarray, (*inputs, *segments)), causal=causal)
    np.testing.assert_allclose(got_BTHK, expected_BTHK, rtol=1e-5, atol=1e-6)


def test_a_query_without_keys_gets_zeros_and_has_no_gradient(inputs):
    segments = jnp.asarray(QUERY_SEGMENTS_BT), jnp.asarray(KEY_SEGMENTS_BS)

    def total(query_BTHK, key_BSHK, value_BSHK):
        return jnp.square(attend(query_BTHK, key_BSHK, value_BSHK, *segments, causal=False) - 1).sum()

    unseen = [4, 5]  # segment 3 has no keys, and the last position is padding
    got_BTHK = attend(*map(jnp.asarray, inputs), *segments, causal=False)
    assert not got_BTHK[0, unseen].any()
    gradients = jax.grad(total, argnums=(0, 1, 2))(*map(jnp.asarray, inputs))
    assert all(jnp.isfinite(gradient).all() for gradient in gradients)
    assert not gradients[0][0, unseen].any()
    assert not any(gradient[0, 3:].any() for gradient in gradients[1:]), "padded keys"


def test_gradients_equal_those_of_softmax_attention(inputs):
    ones_BT, ones_BS = jnp.ones((2, 6), jnp.int32), jnp.ones((2, 7), jnp.int32)
    causal_TS = jnp.tril(jnp.ones((6, 7), bool))

    def plain(query_BTHK, key_BSHK, value_BSHK):
        scores_BHTS = jnp.einsum("BTHK,BSHK->BHTS", query_BTHK, key_BSHK) / 2
        weights_BHTS = jax.nn.softmax(jnp.where(causal_TS[None, None], scores_BHTS, -jnp.inf))
        return jnp.einsum("BHTS,BSHK->BTHK", weights_BHTS, value_BSHK)

    def gradients(function):
        return jax.grad(lambda *qkv: jnp.square(function(*qkv)).sum(), argnums=(0, 1, 2))(*inputs)

    ours = gradients(lambda *qkv: attend(*qkv, ones_BT, ones_BS, causal=True))
    for got, expected in zip(ours, gradients(plain), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_huge_scores_stay_finite(inputs):
    segments = jnp.asarray(QUERY_SEGMENTS_BT), jnp.asarray(KEY_SEGMENTS_BS)
    query_BTHK, key_BSHK, value_BSHK = (1e4 * jnp.asarray(x) for x in inputs)
    assert jnp.isfinite(attend(query_BTHK, key_BSHK, value_BSHK, *segments, causal=False)).all()


def test_dropout_keeps_the_mean(inputs):
    segments = jnp.asarray(QUERY_SEGMENTS_BT), jnp.asarray(KEY_SEGMENTS_BS)

    def dropped(key):
        arrays = map(jnp.asarray, inputs)
        return attend(*arrays, *segments, causal=False, dropout_rate=0.3, dropout_key=key)

    mean_BTHK = jax.jit(lambda keys: jax.vmap(dropped)(keys).mean(0))(
        jax.random.split(jax.random.key(0), 4000)
    )
    expected_BTHK = attend(*map(jnp.asarray, inputs), *segments, causal=False)
    np.testing.assert_allclose(mean_BTHK, expected_BTHK, atol=0.06)
