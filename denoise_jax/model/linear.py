"""The linear layer that attention, feed-forward layers and output heads are made of."""

import jax
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
        dot_general=lambda x, kernel, *_, **__: product(x, kernel),
        rngs=rngs,
    )


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x @ kernel, [..., D] by [D, W], with a faster gradient of the kernel on CPUs."""
    return x @ kernel


def _backward(saved, gradient):
    x, kernel = saved
    of_kernel = jax.lax.platform_dependent(x, gradient, cpu=_kernel_gradient_on_cpu, default=_kernel_gradient)
    return gradient @ kernel.T, of_kernel


product.defvjp(lambda x, kernel: (product(x, kernel), (x, kernel)), _backward)


def _kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
    return jnp.einsum("...D,...W->DW", x, gradient)


def _kernel_gradient_on_cpu(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """XLA would contract the first axes of both, which on CPUs is three times slower than to transpose the
    narrower one first. The barriers keep it from doing so, and from computing x again in transposed order.
    """
    x, gradient = (jax.lax.optimization_barrier(array.reshape(-1, array.shape[-1])) for array in (x, gradient))
    if x.shape[1] > gradient.shape[1]:
        return _contract_rows(gradient, x).T
    return _contract_rows(x, gradient)


def _contract_rows(narrow: jax.Array, wide: jax.Array) -> jax.Array:
    transposed = jax.lax.optimization_barrier(narrow.T)
    return jax.lax.optimization_barrier(transposed @ wide)
