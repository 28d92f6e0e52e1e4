"""Learning rates at the steps that matter, weight decay of matrices only, and clipping."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.config import OptimizerConfig
from denoise_jax.training.optimizer import decay_mask, make_optimizer, make_schedule

PEAK, WARMUP, STEPS = 1e-3, 10, 110


def _rate(step, schedule, **options):
    config = OptimizerConfig(learning_rate=PEAK, warmup_steps=WARMUP, schedule=schedule, **options)
    return float(jax.jit(make_schedule(config, STEPS))(np.float32(step)))  # as the loop calls it


@pytest.mark.parametrize("schedule", ["polynomial", "cosine", "inverse_sqrt", "constant"])
def test_warmup_rises_to_the_peak(schedule):
    rates = [_rate(step, schedule) for step in range(WARMUP + 1)]
    assert rates[:WARMUP] == pytest.approx([PEAK * (n + 1) / WARMUP for n in range(WARMUP)])
    assert rates[WARMUP] == pytest.approx(PEAK)


def test_schedules_decay_as_published():
    assert _rate(60, "polynomial") == pytest.approx(PEAK / 2)
    assert _rate(110, "polynomial", final_learning_rate=1e-5) == pytest.approx(1e-5, rel=1e-5)  # float32
    assert _rate(60, "polynomial", polynomial_power=2.0) == pytest.approx(PEAK / 4)
    assert _rate(60, "cosine") == pytest.approx(PEAK / 2)
    assert _rate(110, "cosine", final_learning_rate=1e-5) == pytest.approx(1e-5)
    assert _rate(40, "inverse_sqrt") == pytest.approx(PEAK / 2)
    assert _rate(99, "constant") == pytest.approx(PEAK)


def test_norms_and_biases_do_not_decay():
    params = {
        "embedding": {"tokens": jnp.ones((4, 2))},
        "encoder": {"layers": {"ffn": {"up": {"kernel": jnp.ones((1, 2, 2)), "bias": jnp.ones((1, 2))}}}},
        "decoder": {"final_norm": {"scale": jnp.ones(2)}},
        "classifier": {"out": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}},
    }
    mask = decay_mask(params)
    assert mask["embedding"]["tokens"]
    assert mask["encoder"]["layers"]["ffn"]["up"] == {"kernel": True, "bias": False}
    assert mask["classifier"]["out"] == {"kernel": True, "bias": False}
    assert not mask["decoder"]["final_norm"]["scale"]
    for name in ("adamw", "adafactor"):
        config = OptimizerConfig(name=name, warmup_steps=0, schedule="constant", weight_decay=0.1)
        optimizer = make_optimizer(config, STEPS)
        zeros = jax.tree.map(jnp.zeros_like, params)
        updates, _ = jax.jit(optimizer.update)(zeros, jax.jit(optimizer.init)(params), params)
        expected = -config.learning_rate * config.weight_decay
        assert float(updates["embedding"]["tokens"].max()) == pytest.approx(expected)
        assert float(jnp.abs(updates["decoder"]["final_norm"]["scale"]).max()) == 0


def test_clipping_bounds_the_global_norm():
    params = {"kernel": jnp.zeros(4)}
    gradients = {"kernel": jnp.full(4, 100.0)}
    for clip_norm, expected in ((1.0, 1.0), (None, 200.0)):
        config = OptimizerConfig(clip_norm=clip_norm, b1=0.0)
        clip = make_optimizer(config, 10**6)
        _, state = clip.update(gradients, clip.init(params), params)
        moment = jax.tree.leaves_with_path(state)
        (first,) = [leaf for path, leaf in moment if "mu" in jax.tree_util.keystr(path)]
        assert float(jnp.linalg.norm(first)) == pytest.approx(expected)


def test_the_first_moment_can_be_stored_in_bfloat16():
    params = {"kernel": jax.random.normal(jax.random.key(0), (64, 64))}
    gradients = {"kernel": jax.random.normal(jax.random.key(1), (64, 64))}
    found = {}
    for dtype in ("float32", "bfloat16"):
        optimizer = make_optimizer(OptimizerConfig(first_moment_dtype=dtype), STEPS)
        state = optimizer.init(params)
        for _ in range(3):
            updates, state = jax.jit(optimizer.update)(gradients, state, params)
        for path, leaf in jax.tree.leaves_with_path(state):
            name = jax.tree_util.keystr(path)
            assert leaf.dtype == (dtype if ".mu" in name else "float32" if ".nu" in name else "int32")
        assert updates["kernel"].dtype == jnp.float32
        found[dtype] = updates["kernel"]
    np.testing.assert_allclose(found["bfloat16"], found["float32"], rtol=0.01, atol=1e-8)
    assert not np.array_equal(found["bfloat16"], found["float32"])
