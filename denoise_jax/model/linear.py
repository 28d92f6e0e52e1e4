"""The linear layer that attention, feed-forward layers and output heads are made of."""

import jax.numpy as jnp
from flax import nnx

from denoise_jax.config import ModelConfig


def make_linear(
    config: ModelConfig,
    rngs: nnx.Rngs,
    width_in: int,
    width_out: int,
    *,
    use_bias: bool | None = None,
    dtype: str | None = None,
) -> nnx.Linear:
    """A linear layer with a normal(0, `init_std`) kernel [width_in, width_out] and, if any, a zero bias.

    `use_bias` and `dtype` (of the computation and its result) default to those of the configuration.
    """
    return nnx.Linear(
        width_in,
        width_out,
        use_bias=config.use_bias if use_bias is None else use_bias,
        dtype=jnp.dtype(dtype or config.compute_dtype),
        kernel_init=nnx.initializers.normal(config.init_std),
        rngs=rngs,
    )
