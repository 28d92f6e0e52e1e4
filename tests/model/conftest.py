"""A model small enough to compile in a second, and batches for it."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.config import ModelConfig
from denoise_jax.model import transformer

VOCAB_SIZE = 50

# The published architectures, and mixtures in which each option stands beside others than usual.
VARIANTS = {
    "bart": {},
    "mbart": {"norm_position": "pre", "scale_embedding": True},
    "modern": {
        "norm_position": "pre",
        "norm": "rms",
        "positions": "rotary",
        "gated_ffn": True,
        "activation": "silu",
        "use_bias": False,
        "embedding_norm": False,
    },
    "rotary post-norm": {"norm": "rms", "positions": "rotary", "tie_embeddings": False},
    "gated post-norm": {"gated_ffn": True, "use_bias": False, "activation": "relu"},
}

# The optimised code of a CPU is not what these tests are about, and takes twice as long to compile.
QUICK = {"xla_backend_optimization_level": 0}


@pytest.fixture(scope="session")
def jit() -> Callable:
    """jax.jit that compiles quickly."""
    return functools.partial(jax.jit, compiler_options=QUICK)


@pytest.fixture(scope="session")
def run(jit) -> Callable[..., jax.Array]:
    """run(config, params, batch, dropout_key=None): logits [B, T, V]; compiled once for a configuration."""

    @functools.lru_cache
    def compiled(config):
        def logits(params, batch, dropout_key):
            return transformer.bind_params(config, params)(batch, dropout_key=dropout_key)

        return jit(logits)

    return lambda config, params, batch, dropout_key=None: compiled(config)(params, batch, dropout_key)


@pytest.fixture(scope="session")
def vocab_size() -> int:
    """Not a multiple of the tiny model's vocab_multiple, 16: its table has 64 rows."""
    return VOCAB_SIZE


@pytest.fixture(scope="session")
def tiny() -> Callable[..., ModelConfig]:
    """tiny(**fields): float32, unrolled, without dropout; a wide initialisation, so that layers matter."""

    def config(**fields) -> ModelConfig:
        base = {
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
        return ModelConfig(**base | fields)

    return config


@pytest.fixture(scope="session", params=VARIANTS.values(), ids=VARIANTS)
def variant(request) -> dict:
    """The fields of each architecture in turn, for `tiny`."""
    return request.param


@pytest.fixture(scope="session")
def modern() -> dict:
    """The fields of the modern architecture, for `tiny`."""
    return VARIANTS["modern"]


@pytest.fixture(scope="session")
def make_params() -> Callable[[ModelConfig], dict]:
    """make_params(config): random parameters, the same ones at each call; biases and norms not 0 and 1."""

    def make(config: ModelConfig) -> dict:
        random = np.random.default_rng(0)

        def draw(path, leaf):
            values = config.init_std * random.standard_normal(leaf.shape)
            return jnp.asarray(values + (path[-1].key == "scale"), jnp.float32)

        shapes = jax.eval_shape(lambda: transformer.init_params(config, jax.random.key(0)))
        return jax.tree_util.tree_map_with_path(draw, shapes)

    return make


@pytest.fixture(scope="session")
def by_path() -> Callable[[dict], dict]:
    """by_path(params): leaves by their names joined with slashes."""

    def flatten(params):
        leaves = jax.tree_util.tree_leaves_with_path(params)
        return {"/".join(key.key for key in path): leaf for path, leaf in leaves}

    return flatten


@pytest.fixture(scope="session")
def pack() -> Callable[..., dict[str, jax.Array]]:
    """pack(rows, source_length, target_length): a batch from rows of (source length, target length) pieces.

    Tokens depend on the piece's number only: a piece has the same tokens wherever it is packed.
    """

    def batch(rows, source_length: int = 12, target_length: int = 10, first_piece: int = 0):
        names = "input_tokens", "segment_ids", "positions"
        sides = {"encoder": source_length, "decoder": target_length}
        arrays = {
            f"{side}_{name}": np.zeros((len(rows), length), np.int32)
            for side, length in sides.items()
            for name in names
        }
        piece = first_piece
        for row, pieces in enumerate(rows):
            starts = dict.fromkeys(sides, 0)
            for segment, lengths in enumerate(pieces, 1):
                for side, length in zip(sides, lengths, strict=True):
                    place = row, slice(starts[side], starts[side] + length)
                    seed = [piece, side == "encoder"]
                    tokens = np.random.default_rng(seed).integers(3, VOCAB_SIZE, length)
                    arrays[f"{side}_input_tokens"][place] = tokens
                    arrays[f"{side}_segment_ids"][place] = segment
                    arrays[f"{side}_positions"][place] = np.arange(length)
                    starts[side] += length
                piece += 1
        return {name: jnp.asarray(array) for name, array in arrays.items()}

    return batch
