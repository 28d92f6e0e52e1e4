"""Names, shapes and initial values of the parameters, on which checkpoints and sharding rules depend."""

import jax
import jax.numpy as jnp
import pytest

from denoise_jax.model import transformer
from tests.model.helpers import MODERN, VARIANTS, flatten, jit, random_params, tiny_config

# D 16, F 24, V 64 (50 padded to a multiple of 16), P 20, C 3; encoder 2 layers, decoder 3.
WIDTHS = {
    "self_attention/query": (16, 16),
    "self_attention/key": (16, 16),
    "self_attention/value": (16, 16),
    "self_attention/out": (16, 16),
    "cross_attention/query": (16, 16),
    "cross_attention/key": (16, 16),
    "cross_attention/value": (16, 16),
    "cross_attention/out": (16, 16),
    "ffn/up": (16, 24),
    "ffn/gate": (16, 24),
    "ffn/down": (24, 16),
}
DEPTHS = {"encoder": 2, "decoder": 3}


def expected_shapes(config) -> dict[str, tuple[int, ...]]:
    norm = {"scale": (16,)} | ({"bias": (16,)} if config.norm == "layer" else {})
    shapes = {"embedding/tokens": (64, 16)}
    for side, depth in DEPTHS.items():
        if config.positions == "learned":
            shapes[f"{side}/positions"] = (20, 16)
        norms = ["embedding_norm"] * config.embedding_norm + ["final_norm"] * (config.norm_position == "pre")
        shapes |= {f"{side}/{name}/{leaf}": shape for name in norms for leaf, shape in norm.items()}
        blocks = ["self_attention", "ffn"] + ["cross_attention"] * (side == "decoder")
        for block in blocks:
            shapes |= {f"{side}/layers/{block}_norm/{leaf}": (depth, *shape) for leaf, shape in norm.items()}
        for name, (width_in, width_out) in WIDTHS.items():
            if name.split("/")[0] in blocks and (config.gated_ffn or name != "ffn/gate"):
                shapes[f"{side}/layers/{name}/kernel"] = (depth, width_in, width_out)
                if config.use_bias:
                    shapes[f"{side}/layers/{name}/bias"] = (depth, width_out)
    if config.num_classes:
        shapes |= {"classifier/dense/kernel": (16, 16), "classifier/dense/bias": (16,)}
        shapes |= {"classifier/out/kernel": (16, 3), "classifier/out/bias": (3,)}
    elif not config.tie_embeddings:
        shapes["output/kernel"] = (16, 64)
    return shapes


def named_shapes(config):
    found = flatten(jax.eval_shape(lambda: transformer.init_params(config, jax.random.key(0))))
    assert {leaf.dtype for leaf in found.values()} == {jnp.dtype("float32")}
    return {path: leaf.shape for path, leaf in found.items()}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("tie_embeddings", [True, False])
@pytest.mark.parametrize("num_classes", [None, 3])
def test_names_and_shapes_of_parameters(variant, tie_embeddings, num_classes):
    fields = variant | {"tie_embeddings": tie_embeddings, "num_classes": num_classes}
    config = tiny_config(num_decoder_layers=3, **fields)
    assert named_shapes(config) == expected_shapes(config)


def test_the_modern_model_has_gates_and_final_norms_but_no_biases_or_positions():
    bart = named_shapes(tiny_config())
    found = named_shapes(tiny_config(**MODERN))
    assert not [path for path in found if path.endswith(("bias", "positions")) or "embedding_norm" in path]
    assert {path for path in found if path not in bart} == {
        "encoder/layers/ffn/gate/kernel",
        "decoder/layers/ffn/gate/kernel",
        "encoder/final_norm/scale",
        "decoder/final_norm/scale",
    }


@pytest.mark.parametrize("head", [{"tie_embeddings": False}, {"num_classes": 50}])
def test_kernels_are_normal_biases_zero_and_scales_one(head):
    config = tiny_config(init_std=0.02, embed_dim=64, ffn_dim=128, gated_ffn=True, **head)
    init = jit(lambda key: transformer.init_params(config, key))
    params = flatten(init(jax.random.key(1)))
    for path, leaf in params.items():
        if path.endswith("bias"):
            assert not leaf.any(), path
        elif path.endswith("scale"):
            assert (leaf == 1).all(), path
        else:
            assert leaf.std().item() == pytest.approx(0.02, rel=0.1), path
    kernels = [params["encoder/layers/ffn/up/kernel"], params["decoder/layers/self_attention/query/kernel"]]
    assert all((kernel[0] != kernel[1]).all() for kernel in kernels), "every layer has its own draw"
    assert (params["encoder/positions"] != params["decoder/positions"]).all()
    assert (init(jax.random.key(2))["embedding"]["tokens"] != params["embedding/tokens"]).all()


def test_parameters_of_another_configuration_are_refused():
    params = random_params(tiny_config(norm_position="pre"))
    with pytest.raises(ValueError, match="unexpected: decoder/final_norm/bias"):
        transformer.bind_params(tiny_config(), params)
    params["decoder"]["last_norm"] = params["decoder"].pop("final_norm")  # the same number of leaves
    with pytest.raises(
        ValueError, match="missing: decoder/final_norm/bias.*unexpected: decoder/last_norm/bias"
    ):
        transformer.bind_params(tiny_config(norm_position="pre"), params)
