"""Linear layers: dtypes and biases by configuration or by argument."""

import jax.numpy as jnp
from flax import nnx

from denoise_jax.model.linear import make_linear
from tests.model.helpers import tiny_config


def test_bias_and_dtype_default_to_the_configuration():
    config = tiny_config(use_bias=False, compute_dtype="bfloat16")
    x = jnp.ones((2, 3))
    default = make_linear(config, nnx.Rngs(0), 3, 4)
    assert default.bias is None
    assert (default(x).shape, default(x).dtype, default.kernel.dtype) == ((2, 4), jnp.bfloat16, jnp.float32)
    given = make_linear(config, nnx.Rngs(0), 3, 4, use_bias=True, dtype="float32")
    assert not given.bias[...].any()
    assert given(x).dtype == jnp.float32
