"""Both norms against their definitions in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.model.norms import LayerNorm, RMSNorm, make_norm
from tests.model.helpers import tiny_config


def test_layer_norm_equals_its_definition():
    norm = make_norm(tiny_config(embed_dim=8))
    assert isinstance(norm, LayerNorm)
    random = np.random.default_rng(0)
    scale_D, bias_D = random.standard_normal((2, 8)).astype(np.float32)
    x_BTD = random.normal(50, 3, (2, 3, 8)).astype(np.float32)  # a mean far from 0: no cancellation allowed
    norm.scale[...], norm.bias[...] = jnp.asarray(scale_D), jnp.asarray(bias_D)
    wide_BTD = x_BTD.astype(np.float64)
    centred_BTD = wide_BTD - wide_BTD.mean(-1, keepdims=True)
    expected_BTD = centred_BTD / np.sqrt(wide_BTD.var(-1, keepdims=True) + 1e-5) * scale_D + bias_D
    np.testing.assert_allclose(norm(jnp.asarray(x_BTD)), expected_BTD, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [3, 1e-3])  # the second is of the order of the epsilon's root
def test_rms_norm_equals_its_definition(size):
    norm = make_norm(tiny_config(embed_dim=8, norm="rms"))
    assert isinstance(norm, RMSNorm)
    random = np.random.default_rng(0)
    scale_D = random.standard_normal(8).astype(np.float32)
    x_BTD = random.normal(size, size, (2, 3, 8)).astype(np.float32)
    norm.scale[...] = jnp.asarray(scale_D)
    wide_BTD = x_BTD.astype(np.float64)
    expected_BTD = wide_BTD / np.sqrt(np.square(wide_BTD).mean(-1, keepdims=True) + 1e-6) * scale_D
    np.testing.assert_allclose(norm(jnp.asarray(x_BTD)), expected_BTD, rtol=1e-5)


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_statistics_of_bfloat16_are_float32(kind):
    norm = make_norm(tiny_config(embed_dim=8, norm=kind, compute_dtype="bfloat16"))
    x_BTD = jnp.asarray(np.random.default_rng(0).normal(20, 1, (2, 3, 8)), jnp.bfloat16)
    exact_BTD = make_norm(tiny_config(embed_dim=8, norm=kind))(x_BTD)
    assert norm(x_BTD).dtype == jnp.bfloat16
    np.testing.assert_allclose(norm(x_BTD).astype(jnp.float32), exact_BTD, rtol=2**-8, atol=1e-6)
