"""Feed-forward layers and activations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from denoise_jax.model.layers import ACTIVATIONS, FeedForward
from tests.model.helpers import tiny_config


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gelu_is_exact(dtype):
    x = jnp.linspace(-6, 6, 2001).astype(dtype)
    expected = jax.nn.gelu(x.astype(jnp.float32), approximate=False)
    got = ACTIVATIONS["gelu"](x)
    assert got.dtype == x.dtype
    tolerance = {"float32": 1e-6, "bfloat16": 2**-8}[dtype]
    np.testing.assert_allclose(got.astype(jnp.float32), expected, rtol=tolerance, atol=1e-6)


def test_every_activation_of_the_configuration_exists_and_they_differ():
    names = "gelu", "gelu_tanh", "relu", "silu"
    values = [
        ACTIVATIONS[tiny_config(activation=name).activation](jnp.float32(-0.7)).item() for name in names
    ]
    assert set(ACTIVATIONS) == set(names)
    assert len(set(values)) == len(names)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("gated", [True, False])
def test_feed_forward_equals_its_definition(gated, use_bias):
    ffn = FeedForward(tiny_config(gated_ffn=gated, use_bias=use_bias, activation="silu"), nnx.Rngs(0))
    random = np.random.default_rng(0)
    x_BTD = jnp.asarray(random.standard_normal((2, 3, 16)), jnp.float32)

    def linear(part, x):
        if not use_bias:
            return x @ part.kernel[...]
        part.bias[...] = jnp.asarray(random.standard_normal(part.bias.shape), jnp.float32)
        return x @ part.kernel[...] + part.bias[...][None, None]

    hidden_BTF = linear(ffn.up, x_BTD)
    if gated:
        gate_BTF = linear(ffn.gate, x_BTD)
        hidden_BTF = gate_BTF * jax.nn.sigmoid(gate_BTF) * hidden_BTF
    else:
        hidden_BTF = hidden_BTF * jax.nn.sigmoid(hidden_BTF)
    expected_BTD = linear(ffn.down, hidden_BTF)
    np.testing.assert_allclose(ffn(x_BTD), expected_BTD, rtol=1e-5, atol=1e-5)
