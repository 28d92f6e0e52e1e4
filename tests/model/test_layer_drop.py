"""Layers left out at random: how often, which, at what cost, and none without a rate or a key."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.model import transformer
from denoise_jax.model.dropout import layer_drop

RATES = {"encoder": 0.2, "decoder": 0.5}
FIELDS = {f"{side}_layer_drop": rate for side, rate in RATES.items()}
KEYS = 600


@pytest.fixture(scope="module")
def batch(pack):
    return pack([[(5, 4), (4, 5)], [(12, 10)]])


@pytest.fixture(scope="module")
def steps(tiny, make_params, batch, vocab_size, jit):
    """(kept, size) of `KEYS` steps with keys 0, 1, ...: for each side [steps, layers].

    A layer counts as kept where its largest gradient, `size`, is above 0. The encoder's output is part of the
    objective, as it has no influence on the logits of a decoder all of whose layers are left out.
    """
    config = tiny(**FIELDS)
    params = make_params(config)

    def objective(params, key):
        model = transformer.bind_params(config, params)
        source = [batch[f"encoder_{name}"] for name in ("input_tokens", "segment_ids", "positions")]
        encoded_BSD, logits_BTV = model.encode(*source, dropout_key=key), model(batch, dropout_key=key)
        return jnp.square(encoded_BSD).sum() + jnp.square(logits_BTV[..., :vocab_size]).sum()

    def sizes(seed):
        gradients = jax.grad(objective)(params, jax.random.key(seed))

        def largest(layers):
            leaves = [jnp.abs(leaf).reshape(len(leaf), -1).max(1) for leaf in jax.tree.leaves(layers)]
            return jnp.stack(leaves).max(0)

        return {side: largest(gradients[side]["layers"]) for side in RATES}

    found = jit(lambda seeds: jax.lax.map(sizes, seeds))(jnp.arange(KEYS))
    return {side: (np.asarray(size) > 0, np.asarray(size)) for side, size in found.items()}


def test_layers_are_left_out_at_their_rate_and_apart_from_each_other(steps):
    """Bounds of 4.5 standard deviations: for 4 rates and 6 pairs one false alarm in 15 000 draws of seeds."""
    kept = np.concatenate([steps[side][0] for side in RATES], axis=1)
    rates = np.repeat(list(RATES.values()), 2)
    deviation = np.sqrt(rates * (1 - rates) / KEYS)
    assert (np.abs((1 - kept.mean(0)) - rates) < 4.5 * deviation).all(), 1 - kept.mean(0)
    correlations = np.corrcoef(kept.T) - np.eye(4)
    assert np.abs(correlations).max() < 4.5 / math.sqrt(KEYS), correlations


def test_a_layer_left_out_has_a_gradient_of_exactly_zero_and_the_others_a_large_one(steps):
    for kept, size in steps.values():
        assert not size[~kept].any()
        assert size[kept].min() > 1e-3


@pytest.mark.parametrize("side", RATES)
def test_what_is_left_out_is_the_layer_and_nothing_else(tiny, make_params, batch, run, steps, side):
    """The result is that of a model from which the layer is cut out."""
    config = tiny(**FIELDS)
    params = make_params(config)
    (other,) = RATES.keys() - {side}
    seed = np.flatnonzero((steps[side][0].sum(1) == 1) & steps[other][0].all(1))[0]
    kept = steps[side][0][seed]
    layers = jax.tree.map(lambda leaf: leaf[kept], params[side]["layers"])
    cut = params | {side: params[side] | {"layers": layers}}
    expected_BTV = run(tiny(**{f"num_{side}_layers": 1}), cut, batch)
    got_BTV = run(config, params, batch, dropout_key=jax.random.key(int(seed)))
    np.testing.assert_allclose(got_BTV, expected_BTV, rtol=1e-5, atol=1e-4)


def test_without_a_key_or_a_rate_nothing_is_left_out(tiny, make_params, batch, run):
    params = make_params(tiny())
    plain_BTV = run(tiny(), params, batch)
    np.testing.assert_array_equal(run(tiny(**FIELDS), params, batch), plain_BTV)
    np.testing.assert_array_equal(run(tiny(), params, batch, dropout_key=jax.random.key(0)), plain_BTV)


def test_what_is_left_out_is_not_computed():
    calls = []

    def layer(x):
        jax.debug.callback(lambda: calls.append(1))
        return 2 * x

    gradient = jax.jit(jax.grad(lambda x, key: layer_drop(layer, x, 0.5, key)))
    slopes = [gradient(jnp.float32(1), jax.random.key(seed)).item() for seed in range(40)]
    jax.effects_barrier()
    assert set(slopes) == {1.0, 2.0}
    assert len(calls) == slopes.count(2.0)


# The body of a scan is compiled once for its two layers; what is recomputed is chosen once more.
@pytest.mark.parametrize(("scan_layers", "remat", "count"), [(False, "none", 4 * 2), (True, "full", 2 * 3)])
def test_the_compiled_step_chooses_between_branches(
    tiny, make_params, batch, vocab_size, scan_layers, remat, count
):
    """Forwards and backwards; XLA might also have computed both branches and selected."""
    config = tiny(**FIELDS, scan_layers=scan_layers, remat=remat)

    def objective(params, key):
        return transformer.bind_params(config, params)(batch, dropout_key=key).sum()

    program = jax.jit(jax.grad(objective)).lower(make_params(config), jax.random.key(0)).compile().as_text()
    assert program.count(" conditional(") == count
