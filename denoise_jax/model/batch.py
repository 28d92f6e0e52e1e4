"""Names, shapes and dtypes of a batch of packed rows, as the model and its losses read it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Sharding

from denoise_jax.config import DataConfig
from denoise_jax.target_kinds import TargetKind

MODEL_INPUTS = (
    "encoder_input_tokens",
    "encoder_segment_ids",
    "encoder_positions",
    "decoder_input_tokens",
    "decoder_segment_ids",
    "decoder_positions",
)
TARGETS = ("decoder_target_tokens", "decoder_target_kind")  # kinds are `TargetKind`, 0 is padding
BATCH = (*MODEL_INPUTS, *TARGETS)


def abstract_batch(config: DataConfig, sharding: Sharding) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a global training batch: int32 [batch_size, input_length or target_length]."""

    def shape(name: str) -> jax.ShapeDtypeStruct:
        length = config.input_length if name.startswith("encoder") else config.target_length
        return jax.ShapeDtypeStruct((config.batch_size, length), jnp.int32, sharding=sharding)

    return {name: shape(name) for name in BATCH}


def is_kind(kind_BT: jax.Array, kinds: Sequence[TargetKind]) -> jax.Array:
    """Bool [B, T]: which targets are of one of `kinds`."""
    return jnp.any(kind_BT[..., None] == jnp.array(kinds, kind_BT.dtype)[None, None], axis=-1)
