"""Rotary positions against their definition in complex numbers; only distances matter."""

import jax
import jax.numpy as jnp
import numpy as np

from denoise_jax.model.rotary import apply_rotary, rotary_cos_sin
from tests.model.helpers import BATCH, random_params, run_model, tiny_config

POSITIONS_BT = jnp.asarray([[0, 1, 2, 900], [5, 0, 1, 1023]], jnp.int32)


def test_rotation_is_a_product_of_complex_numbers():
    x_BTHK = np.random.default_rng(0).standard_normal((2, 4, 3, 8)).astype(np.float32)
    speed = 100.0 ** (-np.arange(4) / 4)
    angle = np.asarray(POSITIONS_BT)[:, :, None, None] * speed
    rotated = (x_BTHK[..., :4] + 1j * x_BTHK[..., 4:]) * np.exp(1j * angle)
    got_BTHK = apply_rotary(jnp.asarray(x_BTHK), rotary_cos_sin(POSITIONS_BT, 8, 100.0))
    np.testing.assert_allclose(got_BTHK, np.concatenate([rotated.real, rotated.imag], -1), atol=3e-4)
    np.testing.assert_array_equal(got_BTHK[0, 0], x_BTHK[0, 0], "position 0 is not rotated")


def test_bfloat16_is_rotated_in_float32():
    """At position 1023 an angle in bfloat16 would be off by more than a radian."""
    x_BTHK = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 3, 8)), jnp.bfloat16)
    cos_sin_BTK = rotary_cos_sin(POSITIONS_BT, 8, 10_000.0)
    got_BTHK = apply_rotary(x_BTHK, cos_sin_BTK)
    exact_BTHK = apply_rotary(x_BTHK.astype(jnp.float32), cos_sin_BTK)
    assert (got_BTHK.dtype, cos_sin_BTK.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_array_equal(got_BTHK, exact_BTHK.astype(jnp.bfloat16))


def test_without_cos_sin_nothing_is_rotated():
    x_BTHK = jnp.ones((1, 2, 3, 4))
    assert apply_rotary(x_BTHK, None) is x_BTHK


def shifted(batch, **shifts):
    """The batch with the positions of a side shifted by a number of tokens."""
    return batch | {f"{side}_positions": batch[f"{side}_positions"] + shift for side, shift in shifts.items()}


def test_only_distances_matter():
    config = tiny_config(positions="rotary")
    params = random_params(config)
    real = np.asarray(BATCH["decoder_segment_ids"]) != 0

    def logits(batch):
        return np.asarray(run_model(config, params, batch)[real])

    before = logits(BATCH)
    np.testing.assert_allclose(logits(shifted(BATCH, encoder=7, decoder=7)), before, atol=2e-4)
    # Cross-attention is not rotated, so the two sides are independent.
    np.testing.assert_allclose(logits(shifted(BATCH, encoder=900)), before, atol=1e-3)
    for side in ("encoder", "decoder"):
        stretched = BATCH | {f"{side}_positions": 2 * BATCH[f"{side}_positions"]}
        assert np.abs(logits(stretched) - before).max() > 0.1, f"distances in the {side} matter"


def test_learned_positions_are_absolute():
    config = tiny_config()
    params = random_params(config)
    difference_BTV = run_model(config, params, shifted(BATCH, encoder=7)) - run_model(config, params, BATCH)
    assert jnp.abs(difference_BTV).max() > 0.1


def test_theta_sets_the_lowest_frequency():
    for theta in (100.0, 10_000.0):
        cos_sin_BTK = rotary_cos_sin(jnp.asarray([[1]], jnp.int32), 64, theta)
        angle_J = np.arctan2(cos_sin_BTK[0, 0, 32:], cos_sin_BTK[0, 0, :32])
        np.testing.assert_allclose([angle_J[0], angle_J[31]], [1, theta ** (-31 / 32)], rtol=1e-5)


def test_theta_of_the_configuration_is_used():
    slow, fast = tiny_config(positions="rotary"), tiny_config(positions="rotary", rope_theta=2.0)
    params = random_params(slow)
    assert jnp.abs(run_model(slow, params, BATCH) - run_model(fast, params, BATCH)).max() > 0.1
    assert jax.tree.structure(params) == jax.tree.structure(random_params(fast))
