"""Rotary positions: the definition in complex numbers, and that only distances count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.model.rotary import rotate, turns

POSITIONS_BT = jnp.asarray([[0, 1, 2, 900], [5, 0, 1, 1023]], jnp.int32)


def test_rotation_is_a_product_of_complex_numbers():
    x_BTHK = np.random.default_rng(0).standard_normal((2, 4, 3, 8)).astype(np.float32)
    speed = 100.0 ** (-np.arange(4) / 4)
    angle = np.asarray(POSITIONS_BT)[:, :, None, None] * speed
    turned = (x_BTHK[..., :4] + 1j * x_BTHK[..., 4:]) * np.exp(1j * angle)
    got_BTHK = rotate(jnp.asarray(x_BTHK), turns(POSITIONS_BT, 8, 100.0))
    np.testing.assert_allclose(got_BTHK, np.concatenate([turned.real, turned.imag], -1), atol=3e-4)
    np.testing.assert_array_equal(got_BTHK[0, 0], x_BTHK[0, 0], "position 0 is not turned")


def test_bfloat16_is_rotated_in_float32():
    """At position 1023 an angle in bfloat16 would be off by a radian and more."""
    x_BTHK = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 3, 8)), jnp.bfloat16)
    turns_BTK = turns(POSITIONS_BT, 8, 10_000.0)
    got_BTHK = rotate(x_BTHK, turns_BTK)
    exact_BTHK = rotate(x_BTHK.astype(jnp.float32), turns_BTK)
    assert (got_BTHK.dtype, turns_BTK.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_array_equal(got_BTHK, exact_BTHK.astype(jnp.bfloat16))


def test_no_turns_leave_everything_as_it_is():
    x_BTHK = jnp.ones((1, 2, 3, 4))
    assert rotate(x_BTHK, None) is x_BTHK


@pytest.fixture(scope="module")
def batch(pack):
    return pack([[(5, 4), (4, 5)], [(12, 10)]])


def moved(batch, **shifts):
    """The batch with the positions of a side moved by a number of tokens."""
    return batch | {f"{side}_positions": batch[f"{side}_positions"] + shift for side, shift in shifts.items()}


def test_only_distances_count(tiny, make_params, run, batch):
    config = tiny(positions="rotary")
    params = make_params(config)
    real = np.asarray(batch["decoder_segment_ids"]) != 0

    def logits(batch):
        return np.asarray(run(config, params, batch)[real])

    before = logits(batch)
    np.testing.assert_allclose(logits(moved(batch, encoder=7, decoder=7)), before, atol=2e-4)
    # The two sides count apart from each other: between decoder and encoder nothing is turned.
    np.testing.assert_allclose(logits(moved(batch, encoder=900)), before, atol=1e-3)
    for side in ("encoder", "decoder"):
        stretched = batch | {f"{side}_positions": 2 * batch[f"{side}_positions"]}
        assert np.abs(logits(stretched) - before).max() > 0.1, f"distances on the side of the {side} count"


def test_learned_positions_count_from_the_start(tiny, make_params, run, batch):
    config = tiny()
    params = make_params(config)
    difference_BTV = run(config, params, moved(batch, encoder=7)) - run(config, params, batch)
    assert jnp.abs(difference_BTV).max() > 0.1


def test_theta_sets_the_speed_of_the_slowest_plane():
    for theta in (100.0, 10_000.0):
        turns_BTK = turns(jnp.asarray([[1]], jnp.int32), 64, theta)
        angle_R = np.arctan2(turns_BTK[0, 0, 32:], turns_BTK[0, 0, :32])
        np.testing.assert_allclose([angle_R[0], angle_R[31]], [1, theta ** (-31 / 32)], rtol=1e-5)


def test_theta_of_the_configuration_is_used(tiny, make_params, run, batch):
    slow, fast = tiny(positions="rotary"), tiny(positions="rotary", rope_theta=2.0)
    params = make_params(slow)
    assert jnp.abs(run(slow, params, batch) - run(fast, params, batch)).max() > 0.1
    assert jax.tree.structure(params) == jax.tree.structure(make_params(fast))
