"""The encoder-decoder: dtypes, logits, dropout and placement."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.model import transformer
from denoise_jax.model.attention import Placement
from tests.model.helpers import BATCH, RecordingPlacement, jit, random_params, run_model, tiny_config


def test_bfloat16_is_close_to_float32():
    fields = {"init_std": 0.1, "scan_layers": True, "remat": "full", "vocab_multiple": 1}
    config = tiny_config(compute_dtype="bfloat16", **fields)
    params = random_params(config)
    got_BTV = run_model(config, params, BATCH)
    exact_BTV = run_model(tiny_config(**fields), params, BATCH)
    assert (got_BTV.dtype, exact_BTV.dtype) == (jnp.bfloat16, jnp.float32)
    real = np.asarray(BATCH["decoder_segment_ids"]) != 0
    error = (got_BTV.astype(jnp.float32) - exact_BTV)[real]
    assert jnp.sqrt(jnp.square(error).mean()) < 0.03 * exact_BTV[real].std()


@pytest.mark.parametrize(
    ("norm_position", "compute_dtype"),
    [("post", "float32"), pytest.param("pre", "bfloat16", marks=pytest.mark.slow)],
)
def test_a_row_of_padding_has_finite_logits_and_gradients(norm_position, compute_dtype):
    config = tiny_config(norm_position=norm_position, compute_dtype=compute_dtype)

    def of(params):
        logits_BTV = transformer.bind_params(config, params)(BATCH).astype(jnp.float32)
        return jax.nn.logsumexp(logits_BTV, axis=-1).sum(), logits_BTV

    (_, logits_BTV), gradients = jit(jax.value_and_grad(of, has_aux=True))(random_params(config))
    assert jnp.isfinite(logits_BTV).all()
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_the_tied_output_projection_is_the_token_embedding():
    hidden_BTD = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 16)).astype(np.float32))
    for tied in (True, False):
        config = tiny_config(tie_embeddings=tied)
        params = random_params(config)
        kernel_DV = params["embedding"]["tokens"].T if tied else params["output"]["kernel"]
        logits_BTV = transformer.bind_params(config, params).logits(hidden_BTD)
        np.testing.assert_allclose(
            logits_BTV[..., :50], (hidden_BTD @ kernel_DV)[..., :50], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_vocabulary_padding_is_never_predicted(compute_dtype):
    config = tiny_config(compute_dtype=compute_dtype)
    params = random_params(config)
    params["embedding"]["tokens"] = params["embedding"]["tokens"].at[50:].multiply(1000)
    logits_BTV = run_model(config, params, BATCH)
    assert logits_BTV.shape[-1] == 64
    assert jnp.isfinite(logits_BTV).all()
    assert logits_BTV.argmax(-1).max() < 50
    assert not jax.nn.softmax(logits_BTV.astype(jnp.float32))[..., 50:].any()


@pytest.mark.parametrize(("vocab_size", "masked"), [(50, True), (64, False)])
def test_logits_are_masked_only_if_the_vocabulary_is_padded(vocab_size, masked):
    config = tiny_config(vocab_size=vocab_size)
    model = transformer.bind_params(config, random_params(config))
    assert ("select_n" in str(jax.make_jaxpr(model.logits)(jnp.ones((1, 1, 16))))) == masked


def test_dropout_follows_its_key():
    config = tiny_config(dropout=0.1, attention_dropout=0.1, activation_dropout=0.1)
    params = random_params(config)
    none = run_model(config, params, BATCH)
    first, again, other = (run_model(config, params, BATCH, dropout_key=jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert jnp.abs(first - other).max() > 0.1
    assert jnp.abs(first - none).max() > 0.1
    np.testing.assert_allclose(none, run_model(tiny_config(), params, BATCH), rtol=1e-5, atol=1e-5)


def test_each_dropout_is_applied():
    params = random_params(tiny_config())
    none = run_model(tiny_config(), params, BATCH)
    for rate in ("dropout", "attention_dropout", "activation_dropout"):
        dropped = run_model(tiny_config(**{rate: 0.3}), params, BATCH, dropout_key=jax.random.key(0))
        assert jnp.abs(dropped - none).max() > 0.1, rate


def test_logits_depend_on_the_source_of_their_segment_only():
    config = tiny_config()
    params = random_params(config)
    tokens_BS = BATCH["encoder_input_tokens"]
    changed = BATCH | {"encoder_input_tokens": tokens_BS.at[0, 1].set(tokens_BS[0, 1] + 1)}
    before_BTV, after_BTV = run_model(config, params, BATCH), run_model(config, params, changed)
    assert jnp.abs(before_BTV[0, :4] - after_BTV[0, :4]).max() > 1e-3
    np.testing.assert_array_equal(before_BTV[0, 4:9], after_BTV[0, 4:9], "the other segment")


@pytest.mark.parametrize("scan_layers", [False, True])
def test_the_placement_receives_residuals_logits_and_all_attention(scan_layers):
    config = tiny_config(scan_layers=scan_layers, attention_dropout=0.1)
    model = transformer.bind_params(config, random_params(config))
    placement = RecordingPlacement()
    jax.eval_shape(lambda: model(BATCH, dropout_key=jax.random.key(0), placement=placement))
    layers = 1 if scan_layers else 2  # the body of a scan is traced once
    encoder, decoder = ("residual", (3, 12, 16)), ("residual", (3, 10, 16))
    expected = [encoder] * (1 + layers) + [decoder] * (1 + layers) + [("logits", (3, 10, 64))]
    assert [(kind, x.shape) for kind, x in placement.constrained] == expected
    causal = [options["causal"] for options in placement.attended]
    assert causal == [False] * layers + [True, False] * layers
    assert all(options["dropout_rate"] == 0.1 for options in placement.attended)
    assert all(options["dropout_key"] is not None for options in placement.attended)


def test_a_placement_can_replace_attention():
    class NoAttention(Placement):
        def attention(self, query_BTHK, key_BSHK, value_BSHK, *segments, **options):
            return jnp.zeros_like(query_BTHK)

    config = tiny_config(use_bias=False)
    params = random_params(config)
    without = jit(lambda params: transformer.bind_params(config, params)(BATCH, placement=NoAttention()))
    got_BTV = without(params)
    for side in ("encoder", "decoder"):
        layers = params[side]["layers"]
        for name in {"self_attention", "cross_attention"} & layers.keys():
            layers[name]["out"] = jax.tree.map(jnp.zeros_like, layers[name]["out"])
    np.testing.assert_allclose(got_BTV, run_model(config, params, BATCH), rtol=1e-5, atol=1e-5)
