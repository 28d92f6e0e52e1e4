"""Names, shapes and first values of the parameters, which checkpoints and the sharding rules go by."""

import jax
import jax.numpy as jnp
import pytest

from denoise_jax.model import transformer

# D 16, F 24, V 64 (50 padded to a multiple of 16), P 20.
LAYER = {
    "ffn/down/bias": (16,),
    "ffn/down/kernel": (24, 16),
    "ffn/up/bias": (24,),
    "ffn/up/kernel": (16, 24),
    "ffn_norm/bias": (16,),
    "ffn_norm/scale": (16,),
}
ATTENTION = {
    "/key/bias": (16,),
    "/key/kernel": (16, 16),
    "/out/bias": (16,),
    "/out/kernel": (16, 16),
    "/query/bias": (16,),
    "/query/kernel": (16, 16),
    "/value/bias": (16,),
    "/value/kernel": (16, 16),
    "_norm/bias": (16,),
    "_norm/scale": (16,),
}


def expected_shapes(*, tied: bool, pre: bool) -> dict[str, tuple[int, ...]]:
    shapes = {"embedding/tokens": (64, 16)}
    for side, depth, attentions in (
        ("encoder", 2, ["self_attention"]),
        ("decoder", 3, ["self_attention", "cross_attention"]),
    ):
        shapes[f"{side}/positions"] = (20, 16)
        for norm in ["embedding_norm", *(["final_norm"] if pre else [])]:
            shapes |= {f"{side}/{norm}/scale": (16,), f"{side}/{norm}/bias": (16,)}
        shapes |= {f"{side}/layers/{name}": (depth, *shape) for name, shape in LAYER.items()}
        for attention in attentions:
            shapes |= {
                f"{side}/layers/{attention}{name}": (depth, *shape) for name, shape in ATTENTION.items()
            }
    return shapes if tied else shapes | {"output/kernel": (16, 64)}


@pytest.mark.parametrize("pre", [False, True])
@pytest.mark.parametrize("tied", [True, False])
def test_names_and_shapes_of_parameters(tiny, by_path, vocab_size, tied, pre):
    config = tiny(tie_embeddings=tied, norm_position="pre" if pre else "post", num_decoder_layers=3)
    shapes = jax.eval_shape(lambda key: transformer.init_params(config, vocab_size, key), jax.random.key(0))
    found = by_path(shapes)
    assert {path: leaf.shape for path, leaf in found.items()} == expected_shapes(tied=tied, pre=pre)
    assert {leaf.dtype for leaf in found.values()} == {jnp.dtype("float32")}


def test_initialisation(tiny, by_path, vocab_size, jit):
    config = tiny(init_std=0.02, embed_dim=64, ffn_dim=128, tie_embeddings=False)
    init = jit(lambda key: transformer.init_params(config, vocab_size, key))
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
        transformer.module(tiny(), vocab_size, params)
    params["decoder"]["last_norm"] = params["decoder"].pop("final_norm")  # as many leaves, another name
    with pytest.raises(
        ValueError, match="missing: decoder/final_norm/bias.*unexpected: decoder/last_norm/bias"
    ):
        transformer.module(tiny(norm_position="pre"), vocab_size, params)
