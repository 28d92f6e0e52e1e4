"""Maps Hugging Face tensors to our parameters. The names are the same for BART and mBART.

Shape letters: V rows of their token embedding, P positions, D width, N and M any two sizes.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Literal

import jax

from denoise_jax.config import ModelConfig
from denoise_jax.model.transformer import init_params

# Our name → their name, for each part of a path; "" if they have no such level.
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
# Further names under which files contain the token embedding.
TABLE_COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# Unused rows before the first position, an inheritance from fairseq's padding.
POSITION_OFFSET = 2


@dataclasses.dataclass(frozen=True)
class Part:
    """One of their tensors, and its place in our parameters.

    Kinds: "tokens" [V, D], with rows in the order of their ids; "output" [V, D], the transpose of ours;
    "positions" [2 + P, D], with two unused rows; "matrix" [N, M], the transpose of ours; "vector" [N].
    """

    name: str  # without `model.`
    path: tuple[str, ...]  # to our leaf
    layer: int | None  # index on the leaf's first axis
    kind: Literal["tokens", "output", "positions", "matrix", "vector"]
    shape: tuple[int, ...]  # theirs


def parts(config: ModelConfig, rows: int) -> Iterator[Part]:
    """All tensors of a model whose token embedding has `rows` rows on their side, leaf by leaf."""
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
    """The name in the files of a model with a head, where the encoder-decoder has the prefix `model.`"""
    return name if name.startswith(("lm_head", BIAS, "classification_head")) else f"model.{name}"


@functools.lru_cache
def leaf_shapes(config: ModelConfig) -> dict[tuple[str, ...], tuple[int, ...]]:
    """The shape of each of our parameters, by path."""
    shapes = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    return {tuple(key.key for key in path): leaf.shape for path, leaf in leaves}
