"""Products with parameters: values and gradients of a plain product, on the path for CPUs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.model.products import add_bias, product, product_with_transposed

# Rows that 8 divides and rows that it does not; wider in, and wider out.
SHAPES = [((2, 8, 6), 4), ((3, 5, 4), 7), ((1, 1, 3), 3)]


def _gradients(f, *arguments):
    value, pull_back = jax.vjp(f, *arguments)
    gradient = jnp.cos(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape)
    return (value, *pull_back(gradient.astype(value.dtype)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("shape", "width"), SHAPES)
def test_products_have_the_gradients_of_plain_products(shape, width, dtype):
    draw = np.random.default_rng(0).standard_normal
    x, kernel = (jnp.asarray(draw(s), dtype) for s in (shape, (shape[-1], width)))
    expected = _gradients(lambda x, kernel: jnp.einsum("btd,dw->btw", x, kernel), x, kernel)
    of_transposed = _gradients(product_with_transposed, x, kernel.T)
    for found in (_gradients(product, x, kernel), (*of_transposed[:2], of_transposed[2].T)):
        for ours, plain in zip(found, expected, strict=True):
            assert ours.dtype == plain.dtype
            np.testing.assert_allclose(*(np.asarray(a, np.float32) for a in (ours, plain)), 2e-2, 2e-2)


def test_the_gradient_of_a_bias_is_summed_in_float32():
    """In bfloat16, a sum of ones stops at 256."""
    x = jnp.zeros((2, 512, 3), jnp.bfloat16)
    bias = jnp.arange(3, dtype=jnp.float32)
    value, pull_back = jax.vjp(add_bias, x, bias)
    np.testing.assert_array_equal(value[1, 7], [0, 1, 2])
    of_x, of_bias = pull_back(jnp.ones_like(value))
    assert of_x.dtype == jnp.bfloat16
    np.testing.assert_array_equal(of_bias, [1024, 1024, 1024])
