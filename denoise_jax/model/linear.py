"""The linear layer that attention, feed-forward layers and output heads are made of."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from denoise_jax.config import ModelConfig
from denoise_jax.model.products import add_bias, product

LINEAR_OUTPUT = "linear_output"  # by this name, `remat` can save products


class Linear(nnx.Module):
    """x @ kernel + bias, with a normal(0, `std`) kernel [width_in, width_out] and, if any, a zero bias."""

    def __init__(
        self, width_in: int, width_out: int, *, use_bias: bool, dtype: str, std: float, rngs: nnx.Rngs
    ):
        self.kernel = nnx.Param(std * jax.random.normal(rngs.params(), (width_in, width_out)))
        self.bias = nnx.Param(jnp.zeros(width_out)) if use_bias else None
        self.dtype = jnp.dtype(dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., width_in] to [..., width_out], computed in `dtype`."""
        y = checkpoint_name(product(x.astype(self.dtype), self.kernel.astype(self.dtype)), LINEAR_OUTPUT)
        return y if self.bias is None else add_bias(y, self.bias[...])


def make_linear(
    config: ModelConfig,
    rngs: nnx.Rngs,
    width_in: int,
    width_out: int,
    *,
    use_bias: bool | None = None,
    dtype: str | None = None,
) -> Linear:
    """A linear layer as configured; `use_bias` and `dtype` (of the computation) override that."""
    return Linear(
        width_in,
        width_out,
        use_bias=config.use_bias if use_bias is None else use_bias,
        dtype=dtype or config.compute_dtype,
        std=config.init_std,
        rngs=rngs,
    )
