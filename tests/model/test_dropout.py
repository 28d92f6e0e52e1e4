"""Dropout and LayerDrop: rates, independence, and nothing dropped without a rate or a key."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.model.dropout import dropout, layer_drop, named_keys
from denoise_jax.model.transformer import bind_params
from tests.model.helpers import (
    BATCH,
    VOCAB_SIZE,
    RecordingPlacement,
    jit,
    random_params,
    run_model,
    tiny_config,
)

RATES = {"encoder": 0.2, "decoder": 0.5}
FIELDS = {f"{side}_layer_drop": rate for side, rate in RATES.items()}
KEYS = 600


@pytest.fixture(scope="module")
def steps():
    """(kept, size) of steps with keys 0, 1, ...: for each side bool and float32 [KEYS, layers].

    `size` is the largest gradient of a layer, which is kept if that is above 0. The encoder's output is part
    of the objective because it does not affect the logits if all decoder layers are dropped.
    """
    config = tiny_config(**FIELDS)
    params = random_params(config)

    def objective(params, key):
        placement = RecordingPlacement()
        logits_BTV = bind_params(config, params)(BATCH, dropout_key=key, placement=placement)
        _, encoded_BSD = placement.constrained[2]  # after the embedding and two layers
        return jnp.square(encoded_BSD).sum() + jnp.square(logits_BTV[..., :VOCAB_SIZE]).sum()

    def sizes(seed):
        gradients = jax.grad(objective)(params, jax.random.key(seed))

        def largest(layers):
            leaves = [jnp.abs(leaf).reshape(len(leaf), -1).max(1) for leaf in jax.tree.leaves(layers)]
            return jnp.stack(leaves).max(0)

        return {side: largest(gradients[side]["layers"]) for side in RATES}

    found = jit(lambda seeds: jax.lax.map(sizes, seeds))(jnp.arange(KEYS))
    return {side: (np.asarray(size) > 0, np.asarray(size)) for side, size in found.items()}


def test_layers_are_dropped_independently_at_their_rate(steps):
    """Bounds of 4.5 standard deviations for 4 rates and 6 pairs: one false alarm in 15,000 seeds."""
    kept = np.concatenate([steps[side][0] for side in RATES], axis=1)
    rates = np.repeat(list(RATES.values()), 2)
    deviation = np.sqrt(rates * (1 - rates) / KEYS)
    assert (np.abs((1 - kept.mean(0)) - rates) < 4.5 * deviation).all(), 1 - kept.mean(0)
    correlations = np.corrcoef(kept.T) - np.eye(4)
    assert np.abs(correlations).max() < 4.5 / math.sqrt(KEYS), correlations


def test_the_gradient_of_a_dropped_layer_is_exactly_zero_and_of_a_kept_layer_is_not(steps):
    for kept, size in steps.values():
        assert not size[~kept].any()
        assert size[kept].min() > 1e-3


@pytest.mark.parametrize("side", RATES)
def test_dropping_a_layer_equals_a_model_without_it(steps, side):
    config = tiny_config(**FIELDS)
    params = random_params(config)
    (other,) = RATES.keys() - {side}
    seed = np.flatnonzero((steps[side][0].sum(1) == 1) & steps[other][0].all(1))[0]
    kept = steps[side][0][seed]
    layers = jax.tree.map(lambda leaf: leaf[kept], params[side]["layers"])
    cut = params | {side: params[side] | {"layers": layers}}
    expected_BTV = run_model(tiny_config(**{f"num_{side}_layers": 1}), cut, BATCH)
    got_BTV = run_model(config, params, BATCH, dropout_key=jax.random.key(int(seed)))
    np.testing.assert_allclose(got_BTV, expected_BTV, rtol=1e-5, atol=1e-4)


def test_without_a_key_or_a_rate_no_layer_is_dropped():
    params = random_params(tiny_config())
    plain_BTV = run_model(tiny_config(), params, BATCH)
    np.testing.assert_array_equal(run_model(tiny_config(**FIELDS), params, BATCH), plain_BTV)
    np.testing.assert_array_equal(
        run_model(tiny_config(), params, BATCH, dropout_key=jax.random.key(0)), plain_BTV
    )


def test_a_dropped_layer_is_not_computed():
    calls = []

    def layer(x):
        jax.debug.callback(lambda: calls.append(1))
        return 2 * x

    gradient = jax.jit(jax.grad(lambda x, key: layer_drop(layer, x, 0.5, key)))
    slopes = [gradient(jnp.float32(1), jax.random.key(seed)).item() for seed in range(40)]
    jax.effects_barrier()
    assert set(slopes) == {1.0, 2.0}
    assert len(calls) == slopes.count(2.0)


# The body of a scan is compiled once for both layers; rematerialisation adds a third conditional.
@pytest.mark.parametrize(("scan_layers", "remat", "count"), [(False, "none", 4 * 2), (True, "full", 2 * 3)])
def test_the_compiled_step_branches_instead_of_selecting(scan_layers, remat, count):
    config = tiny_config(**FIELDS, scan_layers=scan_layers, remat=remat)

    def objective(params, key):
        return bind_params(config, params)(BATCH, dropout_key=key).sum()

    program = jax.jit(jax.grad(objective)).lower(random_params(config), jax.random.key(0)).compile().as_text()
    assert program.count(" conditional(") == count


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dropout_zeroes_its_rate_and_keeps_the_mean(dtype):
    x = jnp.full((100, 1003), 2, dtype)
    dropped = dropout(x, 0.1, jax.random.key(0))
    assert (dropped.dtype, dropped.shape) == (x.dtype, x.shape)
    share = (dropped == 0).mean().item()
    assert share == pytest.approx(0.1, abs=0.005)
    kept = dropped[dropped != 0].astype(jnp.float32)
    assert jnp.unique(kept).size == 1, "kept elements have one scale"
    assert dropped.astype(jnp.float32).mean().item() == pytest.approx(2, rel=0.01)


def test_dropout_draws_are_independent():
    dropped = dropout(jnp.ones((2000, 64)), 0.25, jax.random.key(0)) == 0
    correlations = np.corrcoef(np.asarray(dropped).T) - np.eye(64)
    assert np.abs(correlations).max() < 0.12


def test_without_a_key_or_a_rate_nothing_is_dropped():
    x = jnp.arange(5.0)
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, jax.random.key(0)) is x


def test_named_keys_differ_and_are_none_without_a_key():
    assert named_keys(None, "first", "second") == {"first": None, "second": None}
    keys = named_keys(jax.random.key(0), "first", "second")
    assert list(keys) == ["first", "second"]
    assert (jax.random.key_data(keys["first"]) != jax.random.key_data(keys["second"])).any()
