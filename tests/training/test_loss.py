"""Losses against optax, and sums that leave padding out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from denoise_jax.config import OptimizerConfig
from denoise_jax.training import loss

B, T, V = 3, 5, 11


@pytest.fixture
def logits_BTV():
    return 3 * jax.random.normal(jax.random.key(0), (B, T, V))


@pytest.fixture
def targets_BT():
    return jax.random.randint(jax.random.key(1), (B, T), 1, V)


def test_equals_optax(logits_BTV, targets_BT):
    nll, objective = loss.token_losses(logits_BTV, targets_BT)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits_BTV, targets_BT)
    np.testing.assert_allclose(nll, expected, rtol=1e-5)
    np.testing.assert_array_equal(nll, objective)


def test_label_smoothing_spreads_over_real_columns_only(logits_BTV, targets_BT):
    real = 8
    targets_BT = targets_BT % real
    padded = jnp.where(jnp.arange(V)[None, None] < real, logits_BTV, -1e9)
    _, objective = loss.token_losses(padded, targets_BT, vocab_size=real, label_smoothing=0.2)
    smooth = optax.smooth_labels(jax.nn.one_hot(targets_BT, real), 0.2)
    np.testing.assert_allclose(
        objective, optax.softmax_cross_entropy(logits_BTV[..., :real], smooth), rtol=1e-5
    )


def test_z_loss(logits_BTV, targets_BT):
    nll, objective = loss.token_losses(logits_BTV, targets_BT, z_loss=0.1)
    log_z = jax.nn.logsumexp(logits_BTV, axis=-1)
    np.testing.assert_allclose(objective - nll, 0.1 * log_z**2, rtol=1e-4)


def test_sums_leave_padding_out_and_tell_hidden_from_visible(logits_BTV, targets_BT):
    noise = jnp.array([[1, 2, 1, 0, 0], [2, 3, 1, 1, 0], [0, 0, 0, 0, 0]])
    batch = {
        "decoder_target_tokens": targets_BT,
        "decoder_target_noise": noise,
        "decoder_segment_ids": (noise > 0).astype(jnp.int32),
    }
    nll = np.asarray(loss.token_losses(logits_BTV, targets_BT)[0])
    total, sums = loss.training_sums(logits_BTV, batch, OptimizerConfig(), V)
    assert float(total) == pytest.approx(nll[np.asarray(noise) > 0].sum(), rel=1e-5)
    assert (float(sums["tokens"]), float(sums["hidden_tokens"])) == (7, 3)
    assert float(sums["hidden_loss"]) == pytest.approx(nll[np.asarray(noise) > 1].sum(), rel=1e-5)

    measured = loss.evaluation_sums(logits_BTV, batch)
    right = np.asarray(logits_BTV.argmax(-1) == targets_BT)
    assert float(measured["visible_right"]) == right[np.asarray(noise) == 1].sum()
    assert float(measured["visible_tokens"]) == 4
    counts = np.bincount(np.asarray(targets_BT)[np.asarray(noise) > 1], minlength=V)
    np.testing.assert_array_equal(measured["hidden_counts_V"], counts)
