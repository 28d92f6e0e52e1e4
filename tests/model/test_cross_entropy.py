"""Cross-entropy equals optax's, in float32 whatever the dtype of the logits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from denoise_jax.model.cross_entropy import cross_entropy


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_equals_optax(dtype):
    logits_BTV = (3 * jax.random.normal(jax.random.key(0), (3, 5, 11))).astype(dtype)
    targets_BT = jax.random.randint(jax.random.key(1), (3, 5), 0, 11)
    nll_BT, log_z_BT = cross_entropy(logits_BTV, targets_BT)
    logits_BTV = logits_BTV.astype(jnp.float32)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits_BTV, targets_BT)
    np.testing.assert_allclose(nll_BT, expected, rtol=1e-5)
    np.testing.assert_allclose(log_z_BT, jax.nn.logsumexp(logits_BTV, axis=-1), rtol=1e-6)
    assert nll_BT.dtype == log_z_BT.dtype == jnp.float32
