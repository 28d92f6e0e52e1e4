"""Names, shapes and first values of the parameters, which checkpoints and the sharding rules go by."""

import jax
import jax.numpy as jnp
import pytest

from denoise_jax.model import transformer

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


def named_shapes(config, vocab_size, by_path):
    found = by_path(jax.eval_shape(lambda: transformer.init_params(config, jax.random.key(0))))
    assert {leaf.dtype for leaf in found.values()} == {jnp.dtype("float32")}
    return {path: leaf.shape for path, leaf in found.items()}


@pytest.mark.parametrize("tie_embeddings", [True, False])
@pytest.mark.parametrize("num_classes", [None, 3])
def test_names_and_shapes_of_parameters(tiny, by_path, vocab_size, variant, tie_embeddings, num_classes):
    fields = variant | {"tie_embeddings": tie_embeddings, "num_classes": num_classes}
    config = tiny(num_decoder_layers=3, **fields)
    assert named_shapes(config, vocab_size, by_path) == expected_shapes(config)


def test_what_the_modern_model_lacks_and_has(tiny, by_path, vocab_size, modern):
    bart = named_shapes(tiny(), vocab_size, by_path)
    found = named_shapes(tiny(**modern), vocab_size, by_path)
    assert not [path for path in found if path.endswith(("bias", "positions")) or "embedding_norm" in path]
    assert {path for path in found if path not in bart} == {
        "encoder/layers/ffn/gate/kernel",
        "decoder/layers/ffn/gate/kernel",
        "encoder/final_norm/scale",
        "decoder/final_norm/scale",
    }


@pytest.mark.parametrize("head", [{"tie_embeddings": False}, {"num_classes": 50}])
def test_initialisation(tiny, by_path, vocab_size, jit, head):
    config = tiny(init_std=0.02, embed_dim=64, ffn_dim=128, gated_ffn=True, **head)
    init = jit(lambda key: transformer.init_params(config, key))
    params = by_path(init(jax.random.key(1)))
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


def test_parameters_of_another_configuration_are_refused(tiny, make_params, vocab_size):
    params = make_params(tiny(norm_position="pre"))
    with pytest.raises(ValueError, match="unexpected: decoder/final_norm/bias"):
        transformer.bind_params(tiny(), params)
    params["decoder"]["last_norm"] = params["decoder"].pop("final_norm")  # as many leaves, another name
    with pytest.raises(
        ValueError, match="missing: decoder/final_norm/bias.*unexpected: decoder/last_norm/bias"
    ):
        transformer.module(tiny(norm_position="pre"), vocab_size, params)
