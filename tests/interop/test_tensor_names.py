"""Our parameters and the tensors of published BART and mBART files match one to one."""

import math

import pytest

from denoise_jax.config import ModelConfig
from denoise_jax.interop.tensor_names import full_name, leaf_shapes, parts

PUBLISHED = {  # names in model.safetensors of facebook/bart-base, layer 0 of the decoder
    *(
        f"model.decoder.layers.0.{block}.{projection}_proj.{kind}"
        for block in ("self_attn", "encoder_attn")
        for projection in ["q", "k", "v", "out"]
        for kind in ("weight", "bias")
    ),
    *(
        f"model.decoder.layers.0.{module}.{kind}"
        for module in ["self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm", "fc1", "fc2"]
        for kind in ("weight", "bias")
    ),
}


def model(**fields) -> ModelConfig:
    return ModelConfig(vocab_size=50, embed_dim=16, num_heads=2, ffn_dim=24, **fields)


def test_names_are_those_of_published_files():
    names = {full_name(part.name) for part in parts(model(), 50)}
    assert {name for name in names if "decoder.layers.0." in name} == PUBLISHED
    assert {name for name in names if ".layers." not in name} == {
        "model.shared.weight",
        *(f"model.{side}.embed_positions.weight" for side in ("encoder", "decoder")),
        *(
            f"model.{side}.layernorm_embedding.{kind}"
            for side in ("encoder", "decoder")
            for kind in ("weight", "bias")
        ),
    }


@pytest.mark.parametrize(
    "fields", [{}, {"norm_position": "pre", "tie_embeddings": False}, {"num_classes": 3}]
)
def test_every_parameter_is_one_tensor_of_the_same_size(fields):
    config = model(**fields)
    sizes: dict[tuple[str, ...], int] = {}
    found = list(parts(config, 50))
    assert len({part.name for part in found}) == len(found)
    for part in found:
        unused = {"positions": 2 * 16, "tokens": (50 - 128) * 16, "output": (50 - 128) * 16}.get(part.kind, 0)
        sizes[part.path] = sizes.get(part.path, 0) + math.prod(part.shape) - unused
    assert sizes == {path: math.prod(shape) for path, shape in leaf_shapes(config).items()}
