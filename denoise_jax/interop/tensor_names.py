"""Which Hugging Face tensor is which part of our parameters, for BART and mBART alike.

Shape letters: V rows of the token table, P positions, D width, N and M the sides of a matrix, L layers.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Literal

import jax

from denoise_jax.config import ModelConfig
from denoise_jax.model.transformer import init_params

# Theirs for each word of our paths. Where a module has no counterpart of its own, it is left out.
_MODULES = {
    "self_attention": "self_attn",
    "cross_attention": "encoder_attn",
    "self_attention_norm": "self_attn_layer_norm",
    "cross_attention_norm": "encoder_attn_layer_norm",
    "ffn": "",
    "ffn_norm": "final_layer_norm",
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "out": "out_proj",
    "up": "fc1",
    "down": "fc2",
    "embedding_norm": "layernorm_embedding",
    "final_norm": "layer_norm",
    "positions": "embed_positions.weight",
    "classifier": "classification_head",
    "kernel": "weight",
    "scale": "weight",
}
TABLE, OUTPUT, BIAS = "shared.weight", "lm_head.weight", "final_logits_bias"
# Names that older files give to the one token table, besides TABLE.
TABLE_COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# Rows before the first position: fairseq's table had them for padding, and no position uses them.
POSITION_OFFSET = 2


@dataclasses.dataclass(frozen=True)
class Part:
    """One of their tensors, and where it lies in our parameters.

    Kinds: "tokens" [V, D], rows in another order; "output", [V, D], which is [D, V] here; "positions" [P, D],
    with two unused rows before it; "matrix" [N, M], which is [M, N] here; "vector".
    """

    name: str  # without `model.`
    path: tuple[str, ...]  # of our leaf
    layer: int | None  # index on the leaf's first axis
    kind: Literal["tokens", "output", "positions", "matrix", "vector"]
    shape: tuple[int, ...]  # theirs


def parts(config: ModelConfig, rows: int) -> Iterator[Part]:
    """All parts of a model with `rows` rows in their token table, leaf by leaf."""
    for path, shape in leaf_shapes(config).items():
        if path == ("embedding", "tokens"):
            yield Part(TABLE, path, None, "tokens", (rows, config.embed_dim))
        elif path == ("output", "kernel"):
            yield Part(OUTPUT, path, None, "output", (rows, config.embed_dim))
        elif path[-1] == "positions":
            yield Part(_name(path), path, None, "positions", (shape[0] + POSITION_OFFSET, shape[1]))
        elif "layers" in path:
            for layer in range(shape[0]):
                yield _linear_part(path, layer, shape[1:])
        else:
            yield _linear_part(path, None, shape)


def _linear_part(path: tuple[str, ...], layer: int | None, shape: tuple[int, ...]) -> Part:
    kind = "matrix" if path[-1] == "kernel" else "vector"
    return Part(_name(path, layer), path, layer, kind, shape[::-1])


def _name(path: tuple[str, ...], layer: int | None = None) -> str:
    words = [f"layers.{layer}" if word == "layers" else _MODULES.get(word, word) for word in path]
    return ".".join(word for word in words if word)


def full_name(name: str) -> str:
    """The name in the files of a model with a head: what belongs to the encoder-decoder is below `model.`"""
    return name if name.startswith(("lm_head", BIAS, "classification_head")) else f"model.{name}"


@functools.lru_cache
def leaf_shapes(config: ModelConfig) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Shape of each leaf of our parameters, by its path; made once for a configuration."""
    shapes = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    return {tuple(key.key for key in path): leaf.shape for path, leaf in leaves}
