"""The objective against optax, and sums that leave padding out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from denoise_jax.config import LossConfig
from denoise_jax.model.cross_entropy import cross_entropy
from denoise_jax.target_kinds import HIDDEN
from denoise_jax.training.loss import token_objective, training_sums

B, T, V = 3, 5, 11


@pytest.fixture
def logits_BTV():
    return 3 * jax.random.normal(jax.random.key(0), (B, T, V))


@pytest.fixture
def targets_BT():
    return jax.random.randint(jax.random.key(1), (B, T), 1, V)


def test_without_options_the_objective_is_the_likelihood(logits_BTV, targets_BT):
    nll, objective = token_objective(logits_BTV, targets_BT, LossConfig(), V)
    np.testing.assert_array_equal(nll, cross_entropy(logits_BTV, targets_BT)[0])
    np.testing.assert_array_equal(nll, objective)


def test_label_smoothing_spreads_over_real_columns_only(logits_BTV, targets_BT):
    real = 8
    targets_BT = targets_BT % real
    padded = jnp.where(jnp.arange(V)[None, None] < real, logits_BTV, -1e9)
    _, objective = token_objective(padded, targets_BT, LossConfig(label_smoothing=0.2), real)
    smooth = optax.smooth_labels(jax.nn.one_hot(targets_BT, real), 0.2)
    np.testing.assert_allclose(
        objective, optax.softmax_cross_entropy(logits_BTV[..., :real], smooth), rtol=1e-5
    )


def test_z_loss_adds_the_squared_log_partition(logits_BTV, targets_BT):
    nll, objective = token_objective(logits_BTV, targets_BT, LossConfig(z_loss=0.1), V)
    log_z = jax.nn.logsumexp(logits_BTV, axis=-1)
    np.testing.assert_allclose(objective - nll, 0.1 * log_z**2, rtol=1e-4)


def test_sums_leave_padding_out_and_count_hidden_tokens(logits_BTV, targets_BT):
    kinds = np.array([[1, 2, 5, 0, 0], [2, 3, 6, 1, 4], [0, 0, 0, 0, 0]], np.int32)
    batch = {"decoder_target_tokens": targets_BT, "decoder_target_kind": jnp.array(kinds)}
    nll = np.asarray(cross_entropy(logits_BTV, targets_BT)[0])
    total, sums = training_sums(logits_BTV, batch, LossConfig(), V)
    assert float(total) == float(sums["loss"]) == pytest.approx(nll[kinds > 0].sum(), rel=1e-5)
    assert (float(sums["tokens"]), float(sums["hidden_tokens"])) == (8, 4)
    assert float(sums["hidden_loss"]) == pytest.approx(nll[np.isin(kinds, HIDDEN)].sum(), rel=1e-5)
