"""Matrix products with parameters, whose gradients are as fast as the products themselves on CPUs too.

XLA's fast CPU products want the contracted axis last on the left and first on the right. Autodiff contracts
other axes. In float32 XLA then is up to three times slower; in bfloat16, where the processor has instructions
for it, five times, because it converts the operands to float32. So on CPUs, operands are transposed first.
Elsewhere these functions are plain products. `benchmarks/train_step.py` shows the difference.

Shape letters: N positions of all rows, D width in, W width out.
"""

import math

import jax
import jax.numpy as jnp


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x @ kernel, [..., D] by [D, W]."""
    return x @ kernel


def _of_product(saved, gradient):
    x, kernel = saved
    return _by_transposed(gradient, kernel), _sum_of_outer_products(x, gradient)


product.defvjp(lambda x, kernel: (product(x, kernel), (x, kernel)), _of_product)


@jax.custom_vjp
def product_with_transposed(x: jax.Array, table: jax.Array) -> jax.Array:
    """x @ table.T, [..., D] by [W, D]."""
    return _by_transposed(x, table)


def _of_product_with_transposed(saved, gradient):
    x, table = saved
    return gradient @ table, _sum_of_outer_products(gradient, x)


product_with_transposed.defvjp(
    lambda x, table: (product_with_transposed(x, table), (x, table)), _of_product_with_transposed
)


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """x + bias, [..., W] and [W], in the dtype of x; the gradient of the bias is summed in float32."""
    return x + bias.astype(x.dtype).reshape((1,) * (x.ndim - 1) + bias.shape)


def _of_add_bias(bias, gradient):
    rows = tuple(range(gradient.ndim - 1))
    return gradient, gradient.sum(rows, dtype=jnp.float32).astype(bias.dtype)


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), bias), _of_add_bias)


def _by_transposed(x: jax.Array, y: jax.Array) -> jax.Array:
    """x @ y.T."""

    def on_cpu(x, y):
        return x @ (_transposed(y) if x.dtype == jnp.bfloat16 else y.T)

    return jax.lax.platform_dependent(x, y, cpu=on_cpu, default=lambda x, y: x @ y.T)


def _sum_of_outer_products(x: jax.Array, y: jax.Array) -> jax.Array:
    """[..., D] and [..., W] contracted to [D, W]."""

    def on_cpu(x, y):
        # Without this barrier, what made x would be computed again in transposed order.
        x_ND, y_NW = (jax.lax.optimization_barrier(a.reshape(-1, a.shape[-1])) for a in (x, y))
        if x_ND.shape[1] > y_NW.shape[1]:
            return _transposed(_transposed(y_NW) @ x_ND)
        return _transposed(x_ND) @ y_NW

    def elsewhere(x, y):
        return jnp.einsum("...D,...W->DW", x, y)

    return jax.lax.platform_dependent(x, y, cpu=on_cpu, default=elsewhere)


def _transposed(x: jax.Array) -> jax.Array:
    """x.T, written to memory. With two axes, XLA would make it part of the product after all."""
    blocks = x.reshape(math.gcd(len(x), 8), -1, x.shape[1])
    return jax.lax.optimization_barrier(blocks.transpose(2, 0, 1)).reshape(x.shape[::-1])
