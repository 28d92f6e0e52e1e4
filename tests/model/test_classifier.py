"""The classification head: its definition, its place, its dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from denoise_jax.model import transformer
from denoise_jax.model.classifier import Classifier


@pytest.fixture(scope="module")
def batch(pack):
    return pack([[(5, 4), (4, 5)], [(12, 10)]])


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_the_head_equals_its_definition(tiny, make_params, batch, vocab_size, compute_dtype):
    config = tiny(num_classes=3, compute_dtype=compute_dtype)
    params = make_params(config)
    model = transformer.bind_params(config, params)
    sides = [
        [batch[f"{side}_{name}"] for name in ("input_tokens", "segment_ids", "positions")]
        for side in ("encoder", "decoder")
    ]
    hidden_BTD = model.decode(*sides[1], model.encode(*sides[0]), sides[0][1]).astype(jnp.float32)
    dense, out = params["classifier"]["dense"], params["classifier"]["out"]
    inner_BTD = jnp.tanh(hidden_BTD @ dense["kernel"] + dense["bias"][None, None])
    expected_BTC = inner_BTD @ out["kernel"] + out["bias"][None, None]
    got_BTC = model(batch)
    assert (got_BTC.shape, got_BTC.dtype) == ((2, 10, 3), jnp.float32)
    np.testing.assert_allclose(got_BTC, expected_BTC, rtol=1e-5, atol=1e-5)


def test_dropout_is_the_heads_own(tiny, make_params, batch, run):
    config = tiny(num_classes=3, classifier_dropout=0.4)
    params = make_params(config)
    plain_BTC = run(tiny(num_classes=3), params, batch)
    np.testing.assert_array_equal(run(config, params, batch), plain_BTC)
    first, again, other = (run(config, params, batch, dropout_key=jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert jnp.abs(first - other).max() > 0.1
    # Before the last map too: without a kernel in the first, all positions are one but for their dropout.
    params["classifier"]["dense"]["kernel"] *= 0
    assert jnp.unique(run(config, params, batch)[..., 0]).size == 1
    assert jnp.unique(run(config, params, batch, dropout_key=jax.random.key(1))[..., 0]).size > 10


def test_dropout_comes_before_the_first_map_too(tiny):
    """An identity in place of it shows what it is given: zeros, and the rest scaled, once it is undone."""
    head = Classifier(tiny(num_classes=2, embed_dim=64, classifier_dropout=0.5), nnx.Rngs(0))
    head.dense.kernel[...] = jnp.eye(64) / 8
    head.out.kernel[...] = jnp.zeros((64, 2)).at[0].set(1.0)  # shows the first number alone
    shown_BT = head(jnp.ones((1, 400, 64)), jax.random.key(0))[..., 0]
    # Kept by both with a chance of 1/4. Two draws of one key would be one draw, and keep 1/2.
    assert (shown_BT > 0).mean().item() == pytest.approx(0.25, abs=0.1)
    np.testing.assert_allclose(shown_BT[shown_BT > 0], 2 * np.tanh(2 / 8), rtol=1e-5)


def test_the_head_is_constrained_as_classes_and_predicts_no_tokens(tiny, make_params, batch, vocab_size):
    seen = []

    def constrain(x, kind):
        seen.append((kind, x.shape))
        return x

    config = tiny(num_classes=3)
    model = transformer.bind_params(config, make_params(config))
    jax.eval_shape(lambda: model(batch, constrain=constrain))
    assert seen[-1] == ("classes", (2, 10, 3))
    with pytest.raises(ValueError, match="num_classes=3: this model tells classes"):
        model.logits(jnp.ones((1, 1, 16)))
