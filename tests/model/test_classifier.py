"""The classification head: its definition and its dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from denoise_jax.model import transformer
from denoise_jax.model.classifier import Classifier
from tests.model.helpers import BATCH, RecordingPlacement, jit, random_params, run_model, tiny_config


@pytest.mark.parametrize("compute_dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_the_head_equals_its_definition(compute_dtype):
    config = tiny_config(num_classes=3, compute_dtype=compute_dtype)
    params = random_params(config)

    def hidden(params):
        model = transformer.bind_params(config, params)
        sides = [
            [BATCH[f"{side}_{name}"] for name in ("input_tokens", "segment_ids", "positions")]
            for side in ("encoder", "decoder")
        ]
        return model.decode(*sides[1], model.encode(*sides[0]), sides[0][1])

    hidden_BTD = jit(hidden)(params).astype(jnp.float32)
    dense, out = params["classifier"]["dense"], params["classifier"]["out"]
    inner_BTD = jnp.tanh(hidden_BTD @ dense["kernel"] + dense["bias"][None, None])
    expected_BTC = inner_BTD @ out["kernel"] + out["bias"][None, None]
    got_BTC = run_model(config, params, BATCH)
    assert (got_BTC.shape, got_BTC.dtype) == ((3, 10, 3), jnp.float32)
    np.testing.assert_allclose(got_BTC, expected_BTC, rtol=1e-5, atol=1e-5)


def test_the_head_has_its_own_dropout_rate():
    config = tiny_config(num_classes=3, classifier_dropout=0.4)
    params = random_params(config)
    plain_BTC = run_model(tiny_config(num_classes=3), params, BATCH)
    np.testing.assert_array_equal(run_model(config, params, BATCH), plain_BTC)
    first, again, other = (run_model(config, params, BATCH, dropout_key=jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert jnp.abs(first - other).max() > 0.1
    # With a zero dense kernel, positions differ only by the dropout before the output layer.
    params["classifier"]["dense"]["kernel"] *= 0
    assert jnp.unique(run_model(config, params, BATCH)[..., 0]).size == 1
    assert jnp.unique(run_model(config, params, BATCH, dropout_key=jax.random.key(1))[..., 0]).size > 10


def test_both_layers_of_the_head_have_dropout_before_them():
    head = Classifier(tiny_config(num_classes=2, embed_dim=64, classifier_dropout=0.5), nnx.Rngs(0))
    head.dense.kernel[...] = jnp.eye(64) / 8
    head.out.kernel[...] = jnp.zeros((64, 2)).at[0].set(1.0)  # selects the first element
    shown_BT = head(jnp.ones((1, 400, 64)), jax.random.key(0))[..., 0]
    # An element survives both with probability 1/4; with one key for both it would be 1/2.
    assert (shown_BT > 0).mean().item() == pytest.approx(0.25, abs=0.1)
    np.testing.assert_allclose(shown_BT[shown_BT > 0], 2 * np.tanh(2 / 8), rtol=1e-5)


def test_class_logits_are_constrained_as_classes_and_token_logits_are_refused():
    config = tiny_config(num_classes=3)
    model = transformer.bind_params(config, random_params(config))
    placement = RecordingPlacement()
    jax.eval_shape(lambda: model(BATCH, placement=placement))
    kind, logits_BTC = placement.constrained[-1]
    assert (kind, logits_BTC.shape) == ("classes", (3, 10, 3))
    with pytest.raises(ValueError, match="num_classes=3: this model predicts classes"):
        model.logits(jnp.ones((1, 1, 16)))
