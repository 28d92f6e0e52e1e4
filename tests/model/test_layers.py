"""The small parts: layer norm, activations, dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.model.dropout import dropout
from denoise_jax.model.layers import ACTIVATIONS, LayerNorm


def test_layer_norm_equals_its_definition(tiny):
    norm = LayerNorm(tiny(embed_dim=8))
    random = np.random.default_rng(0)
    scale_D, bias_D = random.standard_normal((2, 8)).astype(np.float32)
    x_BTD = random.normal(50, 3, (2, 3, 8)).astype(np.float32)  # a mean far from 0: no cancellation allowed
    norm.scale[...], norm.bias[...] = jnp.asarray(scale_D), jnp.asarray(bias_D)
    wide_BTD = x_BTD.astype(np.float64)
    centred_BTD = wide_BTD - wide_BTD.mean(-1, keepdims=True)
    expected_BTD = centred_BTD / np.sqrt(wide_BTD.var(-1, keepdims=True) + 1e-5) * scale_D + bias_D
    np.testing.assert_allclose(norm(jnp.asarray(x_BTD)), expected_BTD, rtol=1e-4, atol=1e-5)


def test_layer_norm_of_bfloat16_has_float32_statistics(tiny):
    norm = LayerNorm(tiny(embed_dim=8, compute_dtype="bfloat16"))
    x_BTD = jnp.asarray(np.random.default_rng(0).normal(20, 1, (2, 3, 8)), jnp.bfloat16)
    exact_BTD = LayerNorm(tiny(embed_dim=8))(x_BTD)
    assert norm(x_BTD).dtype == jnp.bfloat16
    np.testing.assert_allclose(norm(x_BTD).astype(jnp.float32), exact_BTD, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gelu_is_the_exact_one(dtype):
    x = jnp.linspace(-6, 6, 2001).astype(dtype)
    expected = jax.nn.gelu(x.astype(jnp.float32), approximate=False)
    got = ACTIVATIONS["gelu"](x)
    assert got.dtype == x.dtype
    tolerance = {"float32": 1e-6, "bfloat16": 2**-8}[dtype]
    np.testing.assert_allclose(got.astype(jnp.float32), expected, rtol=tolerance, atol=1e-6)


def test_every_activation_of_the_configuration_exists_and_they_differ(tiny):
    names = "gelu", "gelu_tanh", "relu", "silu"
    values = [ACTIVATIONS[tiny(activation=name).activation](jnp.float32(-0.7)).item() for name in names]
    assert set(ACTIVATIONS) == set(names)
    assert len(set(values)) == len(names)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dropout_zeroes_its_share_and_keeps_the_mean(dtype):
    x = jnp.full((100, 1003), 2, dtype)
    dropped = dropout(x, 0.1, jax.random.key(0))
    assert (dropped.dtype, dropped.shape) == (x.dtype, x.shape)
    share = (dropped == 0).mean().item()
    assert share == pytest.approx(0.1, abs=0.005)
    kept = dropped[dropped != 0].astype(jnp.float32)
    assert jnp.unique(kept).size == 1, "what is kept is scaled by one number"
    assert dropped.astype(jnp.float32).mean().item() == pytest.approx(2, rel=0.01)


def test_dropout_draws_are_independent():
    dropped = dropout(jnp.ones((2000, 64)), 0.25, jax.random.key(0)) == 0
    correlations = np.corrcoef(np.asarray(dropped).T) - np.eye(64)
    assert np.abs(correlations).max() < 0.12


def test_no_key_or_no_rate_is_no_dropout():
    x = jnp.arange(5.0)
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, jax.random.key(0)) is x
