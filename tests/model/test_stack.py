"""Stacks of layers: scanned, unrolled and rematerialised alike; positions, norms and the order of layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.model import transformer
from tests.model.helpers import BATCH, MODERN, flatten, jit, pack, random_params, run_model, tiny_config


def loss(logits_BTV, batch):
    """Mean negative log-likelihood of the decoder's input tokens; any function of real positions would do."""
    logits_BTV = logits_BTV.astype(jnp.float32)
    tokens_BT = batch["decoder_input_tokens"]
    picked_BT = jnp.take_along_axis(logits_BTV, tokens_BT[..., None], axis=-1)[..., 0]
    weights_BT = (batch["decoder_segment_ids"] != 0).astype(jnp.float32)
    return ((jax.nn.logsumexp(logits_BTV, axis=-1) - picked_BT) * weights_BT).sum() / weights_BT.sum()


FORMS = {
    "deterministic": [(False, "none"), (True, "none")],
    "rematerialised": [(False, "none"), (True, "dots"), (True, "attention"), (False, "full")],
    "random": [(False, "none"), (True, "full")],
}


@pytest.mark.parametrize(
    ("forms", "dropout", "drop_layers", "architecture"),
    [
        ("deterministic", 0.0, 0.0, "bart"),
        pytest.param("rematerialised", 0.0, 0.0, "bart", marks=pytest.mark.slow),
        pytest.param("random", 0.2, 0.5, "bart", marks=pytest.mark.slow),
        pytest.param("random", 0.2, 0.5, "modern", marks=pytest.mark.slow),
    ],
)
def test_scanned_unrolled_and_rematerialised_layers_are_the_same_function(
    forms, dropout, drop_layers, architecture
):
    fields = MODERN if architecture == "modern" else {}
    fields = fields | {"dropout": dropout, "attention_dropout": dropout, "activation_dropout": dropout}
    fields = fields | {"encoder_layer_drop": drop_layers, "decoder_layer_drop": drop_layers}
    params = random_params(tiny_config(**fields))
    key = jax.random.key(3)
    reference = None
    for scan, remat in FORMS[forms]:
        form = {"scan_layers": scan, "remat": remat}
        config = tiny_config(**fields, **form)

        def of(params, config=config):
            return loss(transformer.bind_params(config, params)(BATCH, dropout_key=key), BATCH)

        value, gradients = jit(jax.value_and_grad(of))(params)
        reference = reference or (value, flatten(gradients))
        np.testing.assert_allclose(value, reference[0], rtol=1e-5, err_msg=str(form))
        for path, gradient in flatten(gradients).items():
            np.testing.assert_allclose(
                gradient, reference[1][path], rtol=2e-3, atol=2e-5, err_msg=f"{form} {path}"
            )


@pytest.mark.parametrize("architecture", ["pre-norm", "modern"])
def test_every_parameter_and_every_layer_matters(architecture):
    fields = MODERN if architecture == "modern" else {"norm_position": "pre"}
    config = tiny_config(tie_embeddings=False, **fields)

    def of(params):
        return loss(transformer.bind_params(config, params)(BATCH), BATCH)

    for path, gradient in flatten(jit(jax.grad(of))(random_params(config))).items():
        layers = gradient if "/layers/" in path else gradient[None]
        # A key's bias adds the same number to all scores of a query, which softmax ignores.
        if not path.endswith("key/bias"):
            assert np.abs(layers).reshape(len(layers), -1).max(axis=1).min() > 1e-6, path


def test_swapping_two_layers_changes_the_result():
    config = tiny_config()
    params = random_params(config)
    swapped = params | {"encoder": params["encoder"] | {}}
    swapped["encoder"]["layers"] = jax.tree.map(lambda leaf: leaf[::-1], params["encoder"]["layers"])
    assert jnp.abs(run_model(config, params, BATCH) - run_model(config, swapped, BATCH)).max() > 0.1


def test_pre_norm_differs_from_post_norm_and_ends_in_a_norm():
    pre, post = tiny_config(norm_position="pre"), tiny_config()
    params = random_params(pre)
    assert jnp.abs(run_model(pre, params, BATCH) - run_model(post, random_params(post), BATCH)).max() > 0.1
    params["decoder"]["final_norm"] = jax.tree.map(jnp.zeros_like, params["decoder"]["final_norm"])
    assert not run_model(pre, params, BATCH)[..., :50].any()


def test_pre_norm_layers_with_zero_weights_return_the_embedding():
    config = tiny_config(norm_position="pre", embedding_norm=False, scale_embedding=True)
    params = random_params(config)
    layers = params["encoder"]["layers"]
    for block in (layers["self_attention"]["out"], layers["ffn"]["down"]):
        block |= jax.tree.map(jnp.zeros_like, block)
    tokens_BS, positions_BS = BATCH["encoder_input_tokens"], BATCH["encoder_positions"]

    @jit
    def encode(params):
        model = transformer.bind_params(config, params)
        table_VD, rows_PD = params["embedding"]["tokens"], params["encoder"]["positions"]
        embedded_BSD = 4 * table_VD[tokens_BS] + rows_PD[positions_BS]  # 4 = sqrt(16)
        encoded_BSD = model.encode(tokens_BS, BATCH["encoder_segment_ids"], positions_BS)
        return encoded_BSD, model.encoder.final_norm(embedded_BSD)

    got_BSD, expected_BSD = encode(params)
    np.testing.assert_allclose(got_BSD, expected_BSD, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_rows_longer_than_max_positions_are_refused(positions):
    config = tiny_config(positions=positions)
    with pytest.raises(ValueError, match="rows of 21 tokens exceed max_positions=20"):
        run_model(config, random_params(config), pack([[(3, 3)]], 21, 5))


def test_the_less_is_recomputed_the_more_is_saved():
    """FLOPs of the gradient before the compiler simplifies it; scores of attention are products, too."""
    flops = {}
    for remat in ("none", "dots", "attention", "full"):
        config = tiny_config(scan_layers=False, remat=remat)

        def of(params, config=config):
            return loss(transformer.bind_params(config, params)(BATCH), BATCH)

        flops[remat] = jit(jax.grad(of)).lower(random_params(config)).cost_analysis()["flops"]
    assert flops["none"] < flops["dots"] < flops["attention"] <= flops["full"]
