"""A model that compiles in a second, its parameters, and batches for it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from denoise_jax.config import ModelConfig
from denoise_jax.model import transformer
from denoise_jax.model.attention import Placement

VOCAB_SIZE = 50  # not a multiple of vocab_multiple (16): the padded size is 64

MODERN = {
    "norm_position": "pre",
    "norm": "rms",
    "positions": "rotary",
    "gated_ffn": True,
    "activation": "silu",
    "use_bias": False,
    "embedding_norm": False,
}
# The published architectures, and others that combine their options differently.
VARIANTS = {
    "bart": {},
    "mbart": {"norm_position": "pre", "scale_embedding": True},
    "modern": MODERN,
    "rotary post-norm": {"norm": "rms", "positions": "rotary", "tie_embeddings": False},
    "gated post-norm": {"gated_ffn": True, "use_bias": False, "activation": "relu"},
}

# jax.jit without XLA's CPU optimizations, which take half of the compile time and are not under test.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def tiny_config(**fields) -> ModelConfig:
    """float32, unrolled, without dropout; initialised widely, so that every layer matters."""
    defaults = {
        "vocab_size": VOCAB_SIZE,
        "embed_dim": 16,
        "num_heads": 2,
        "ffn_dim": 24,
        "num_encoder_layers": 2,
        "num_decoder_layers": 2,
        "max_positions": 20,
        "vocab_multiple": 16,
        "dropout": 0.0,
        "init_std": 0.3,
        "compute_dtype": "float32",
        "scan_layers": False,
        "remat": "none",
    }
    return ModelConfig(**defaults | fields)


@functools.lru_cache
def _random_params(config: ModelConfig) -> dict:
    random = np.random.default_rng(0)

    def draw(path, leaf):
        values = config.init_std * random.standard_normal(leaf.shape)
        return jnp.asarray(values + (path[-1].key == "scale"), jnp.float32)

    shapes = jax.eval_shape(lambda: transformer.init_params(config, jax.random.key(0)))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def random_params(config: ModelConfig) -> dict:
    """Random parameters, the same in each call; biases are not 0 and scales not 1. Dicts may be changed."""
    return jax.tree.map(lambda leaf: leaf, _random_params(config))


@functools.lru_cache
def _compiled(config: ModelConfig):
    def logits(params, batch, dropout_key):
        return transformer.bind_params(config, params)(batch, dropout_key=dropout_key)

    return jit(logits)


def run_model(config: ModelConfig, params, batch, dropout_key=None) -> jax.Array:
    """Logits [B, T, V]; compiled once per configuration and shape."""
    return _compiled(config)(params, batch, dropout_key)


def flatten(params) -> dict[str, jax.Array]:
    """Leaves by their path, with slashes."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(key.key for key in path): leaf for path, leaf in leaves}


def pack(
    rows, source_length: int = 12, target_length: int = 10, first_example: int = 0
) -> dict[str, jax.Array]:
    """A batch from rows of examples, each given as (source length, target length).

    The tokens of an example depend only on its number, in order of appearance, not on where it is packed.
    """
    names = "input_tokens", "segment_ids", "positions"
    sides = {"encoder": source_length, "decoder": target_length}
    arrays = {
        f"{side}_{name}": np.zeros((len(rows), length), np.int32)
        for side, length in sides.items()
        for name in names
    }
    example = first_example
    for row, examples in enumerate(rows):
        starts = dict.fromkeys(sides, 0)
        for segment, lengths in enumerate(examples, 1):
            for side, length in zip(sides, lengths, strict=True):
                where = row, slice(starts[side], starts[side] + length)
                random = np.random.default_rng([example, side == "encoder"])
                arrays[f"{side}_input_tokens"][where] = random.integers(3, VOCAB_SIZE, length)
                arrays[f"{side}_segment_ids"][where] = segment
                arrays[f"{side}_positions"][where] = np.arange(length)
                starts[side] += length
            example += 1
    return {name: jnp.asarray(array) for name, array in arrays.items()}


class RecordingPlacement(Placement):
    """Records the (kind, activation) pairs of `constrain` and the options of each `attention`."""

    def __init__(self):
        self.constrained, self.attended = [], []

    def constrain(self, x, kind):
        self.constrained.append((kind, x))
        return x

    def attention(self, *arrays, **options):
        self.attended.append(options)
        return super().attention(*arrays, **options)


# Three rows: two examples packed, one example that fills its row, padding only.
BATCH = pack([[(5, 4), (4, 5)], [(12, 10)], []])
