"""The encoder-decoder: every form of the stack one function, and each option."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.model import transformer


@pytest.fixture(scope="module")
def batch(pack):
    return pack([[(5, 4), (4, 5)], [(12, 10)], []])


def loss(logits_BTV, batch):
    """Mean negative log-likelihood of the decoder's input tokens: any function of real positions will do."""
    logits_BTV = logits_BTV.astype(jnp.float32)
    tokens_BT = batch["decoder_input_tokens"]
    picked_BT = jnp.take_along_axis(logits_BTV, tokens_BT[..., None], axis=-1)[..., 0]
    weights_BT = (batch["decoder_segment_ids"] != 0).astype(jnp.float32)
    return ((jax.nn.logsumexp(logits_BTV, axis=-1) - picked_BT) * weights_BT).sum() / weights_BT.sum()


FORMS = {
    "deterministic": [(False, "none"), (True, "none"), (True, "dots"), (False, "full")],
    "random": [(False, "none"), (True, "full")],
}


@pytest.mark.parametrize(
    ("forms", "dropout", "drop_layers", "architecture"),
    [
        ("deterministic", 0.0, 0.0, "bart"),
        pytest.param("random", 0.2, 0.0, "bart", marks=pytest.mark.slow),
        ("random", 0.2, 0.5, "modern"),
    ],
)
def test_scanned_unrolled_and_recomputed_are_one_function(
    tiny, by_path, make_params, batch, vocab_size, jit, modern, forms, dropout, drop_layers, architecture
):
    fields = modern if architecture == "modern" else {}
    fields = fields | {"dropout": dropout, "attention_dropout": dropout, "activation_dropout": dropout}
    fields = fields | {"encoder_layer_drop": drop_layers, "decoder_layer_drop": drop_layers}
    params = make_params(tiny(**fields))
    key = jax.random.key(3)
    reference = None
    for scan, remat in FORMS[forms]:
        form = {"scan_layers": scan, "remat": remat}
        config = tiny(**fields, **form)

        def of(params, config=config):
            return loss(transformer.bind_params(config, params)(batch, dropout_key=key), batch)

        value, gradients = jit(jax.value_and_grad(of))(params)
        reference = reference or (value, by_path(gradients))
        np.testing.assert_allclose(value, reference[0], rtol=1e-5, err_msg=str(form))
        for path, gradient in by_path(gradients).items():
            np.testing.assert_allclose(
                gradient, reference[1][path], rtol=2e-3, atol=2e-5, err_msg=f"{form} {path}"
            )


@pytest.mark.parametrize("architecture", ["pre-norm", "modern"])
def test_every_parameter_and_every_layer_matters(
    tiny, by_path, make_params, batch, vocab_size, jit, modern, architecture
):
    fields = modern if architecture == "modern" else {"norm_position": "pre"}
    config = tiny(tie_embeddings=False, **fields)

    def of(params):
        return loss(transformer.bind_params(config, params)(batch), batch)

    for path, gradient in by_path(jit(jax.grad(of))(make_params(config))).items():
        layers = gradient if "/layers/" in path else gradient[None]
        # Softmax ignores a number added to all scores of a query, so a key's bias has no influence.
        if not path.endswith("key/bias"):
            assert np.abs(layers).reshape(len(layers), -1).max(axis=1).min() > 1e-6, path


def test_swapping_two_layers_changes_the_result(tiny, make_params, batch, run):
    config = tiny()
    params = make_params(config)
    swapped = params | {"encoder": params["encoder"] | {}}
    swapped["encoder"]["layers"] = jax.tree.map(lambda leaf: leaf[::-1], params["encoder"]["layers"])
    assert jnp.abs(run(config, params, batch) - run(config, swapped, batch)).max() > 0.1


def test_bfloat16_is_close_to_float32(tiny, make_params, batch, run):
    fields = {"init_std": 0.1, "scan_layers": True, "remat": "full", "vocab_multiple": 1}
    config = tiny(compute_dtype="bfloat16", **fields)
    params = make_params(config)
    got_BTV = run(config, params, batch)
    exact_BTV = run(tiny(**fields), params, batch)
    assert (got_BTV.dtype, exact_BTV.dtype) == (jnp.bfloat16, jnp.float32)
    real = np.asarray(batch["decoder_segment_ids"]) != 0
    error = (got_BTV.astype(jnp.float32) - exact_BTV)[real]
    assert jnp.sqrt(jnp.square(error).mean()) < 0.03 * exact_BTV[real].std()


@pytest.mark.parametrize(("norm_position", "compute_dtype"), [("post", "float32"), ("pre", "bfloat16")])
def test_a_fully_padded_row_is_finite(tiny, make_params, pack, vocab_size, jit, norm_position, compute_dtype):
    config = tiny(norm_position=norm_position, compute_dtype=compute_dtype)
    padded = pack([[], [(3, 3)]])

    def of(params):
        logits_BTV = transformer.bind_params(config, params)(padded).astype(jnp.float32)
        return jax.nn.logsumexp(logits_BTV, axis=-1).sum(), logits_BTV

    (_, logits_BTV), gradients = jit(jax.value_and_grad(of, has_aux=True))(make_params(config))
    assert jnp.isfinite(logits_BTV).all()
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_norm_position_changes_the_function_and_pre_norm_ends_in_a_norm(tiny, make_params, batch, run):
    pre, post = tiny(norm_position="pre"), tiny()
    params = make_params(pre)
    assert jnp.abs(run(pre, params, batch) - run(post, make_params(post), batch)).max() > 0.1
    params["decoder"]["final_norm"] = jax.tree.map(jnp.zeros_like, params["decoder"]["final_norm"])
    assert not run(pre, params, batch)[..., :50].any()


def test_pre_norm_layers_without_weights_pass_the_embedding_through(tiny, make_params, batch, vocab_size):
    config = tiny(norm_position="pre", embedding_norm=False, scale_embedding=True)
    params = make_params(config)
    layers = params["encoder"]["layers"]
    for block in (layers["self_attention"]["out"], layers["ffn"]["down"]):
        block |= jax.tree.map(jnp.zeros_like, block)
    model = transformer.bind_params(config, params)
    tokens_BS, positions_BS = batch["encoder_input_tokens"], batch["encoder_positions"]
    got_BSD = model.encode(tokens_BS, batch["encoder_segment_ids"], positions_BS)
    table_VD, rows_PD = params["embedding"]["tokens"], params["encoder"]["positions"]
    expected_BSD = model.encoder.final_norm(4 * table_VD[tokens_BS] + rows_PD[positions_BS])  # 4 = sqrt(16)
    np.testing.assert_allclose(got_BSD, expected_BSD, rtol=1e-5, atol=1e-5)


def test_tied_output_is_the_token_table_and_untied_is_not(tiny, make_params, vocab_size):
    hidden_BTD = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 16)).astype(np.float32))
    for tied in (True, False):
        config = tiny(tie_embeddings=tied)
        params = make_params(config)
        kernel_DV = params["embedding"]["tokens"].T if tied else params["output"]["kernel"]
        logits_BTV = transformer.bind_params(config, params).logits(hidden_BTD)
        np.testing.assert_allclose(
            logits_BTV[..., :50], (hidden_BTD @ kernel_DV)[..., :50], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_vocabulary_padding_is_never_predicted(tiny, make_params, batch, run, compute_dtype):
    config = tiny(compute_dtype=compute_dtype)
    params = make_params(config)
    params["embedding"]["tokens"] = params["embedding"]["tokens"].at[50:].multiply(1000)
    logits_BTV = run(config, params, batch)
    assert logits_BTV.shape[-1] == 64
    assert jnp.isfinite(logits_BTV).all()
    assert logits_BTV.argmax(-1).max() < 50
    assert not jax.nn.softmax(logits_BTV.astype(jnp.float32))[..., 50:].any()


def test_a_vocabulary_without_padding_is_not_masked(tiny, make_params):
    config = tiny()
    params = make_params(config)
    hidden_BTD = jnp.ones((1, 1, 16))

    def program(vocab_size):
        model = transformer.bind_params(config, params)
        return str(jax.make_jaxpr(model.logits)(hidden_BTD))

    assert "select_n" in program(50)
    assert "select_n" not in program(64)


def test_dropout_follows_its_key(tiny, make_params, batch, run):
    config = tiny(dropout=0.1, attention_dropout=0.1, activation_dropout=0.1)
    params = make_params(config)
    none = run(config, params, batch)
    first, again, other = (run(config, params, batch, dropout_key=jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert jnp.abs(first - other).max() > 0.1
    assert jnp.abs(first - none).max() > 0.1
    np.testing.assert_allclose(none, run(tiny(), params, batch), rtol=1e-5, atol=1e-5)


def test_each_dropout_is_applied(tiny, make_params, batch, run):
    params = make_params(tiny())
    none = run(tiny(), params, batch)
    for rate in ("dropout", "attention_dropout", "activation_dropout"):
        dropped = run(tiny(**{rate: 0.3}), params, batch, dropout_key=jax.random.key(0))
        assert jnp.abs(dropped - none).max() > 0.1, rate


def test_loss_depends_on_the_encoders_input(tiny, make_params, batch, run):
    config = tiny()
    params = make_params(config)
    tokens_BS = batch["encoder_input_tokens"]
    changed = batch | {"encoder_input_tokens": tokens_BS.at[0, 1].set(tokens_BS[0, 1] + 1)}
    before_BTV, after_BTV = run(config, params, batch), run(config, params, changed)
    assert jnp.abs(before_BTV[0, :4] - after_BTV[0, :4]).max() > 1e-3
    np.testing.assert_array_equal(before_BTV[0, 4:9], after_BTV[0, 4:9], "the other segment")


@pytest.mark.parametrize("scan_layers", [False, True])
def test_constrain_is_shown_the_residual_stream_and_the_logits(
    tiny, make_params, batch, vocab_size, scan_layers
):
    seen = []

    def constrain(x, kind):
        seen.append((kind, x.shape))
        return x

    config = tiny(scan_layers=scan_layers)
    model = transformer.bind_params(config, make_params(config))
    jax.eval_shape(lambda: model(batch, constrain=constrain))
    encoder, decoder = ("residual", (3, 12, 16)), ("residual", (3, 10, 16))
    calls = 2 if scan_layers else 3  # the body of a scan is traced once
    assert seen == [encoder] * calls + [decoder] * calls + [("logits", (3, 10, 64))]


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_rows_beyond_the_positions_are_refused(tiny, make_params, pack, run, positions):
    config = tiny(positions=positions)
    with pytest.raises(ValueError, match="rows of 21 tokens exceed max_positions=20"):
        run(config, make_params(config), pack([[(3, 3)]], 21, 5))
