"""Rotary position embeddings (RoFormer, Su et al. 2021).

A head of width K holds K/2 pairs of elements, each of which is rotated by an angle proportional to the
position. As in GPT-NeoX and Llama, element i is paired with element i + K/2; the paper pairs neighbours,
which is the same model with its elements permuted.

Shape letters: B batch, T positions, H heads, K head width, J = K/2 pairs.
"""

import jax
import jax.numpy as jnp


def rotary_cos_sin(positions_BT: jax.Array, head_width: int, theta: float) -> jax.Array:
    """The cosines and then the sines of all angles at each position, float32 [B, T, K].

    Pair j rotates by theta ** (-j / J) radians per position. Positions restart at 0 in each packed segment.
    Computed once for all layers.
    """
    pairs = head_width // 2
    frequency_J = theta ** (-jnp.arange(pairs, dtype=jnp.float32) / pairs)
    angle_BTJ = positions_BT.astype(jnp.float32)[..., None] * frequency_J[None, None]
    return jnp.concatenate([jnp.cos(angle_BTJ), jnp.sin(angle_BTJ)], axis=-1)


def apply_rotary(x_BTHK: jax.Array, cos_sin_BTK: jax.Array | None) -> jax.Array:
    """Queries or keys rotated to their positions: computed in float32, returned in their own dtype.

    If `cos_sin` is None, x is returned unchanged.
    """
    if cos_sin_BTK is None:
        return x_BTHK
    cos_BT1J, sin_BT1J = jnp.split(cos_sin_BTK[:, :, None], 2, axis=-1)
    first_BTHJ, second_BTHJ = jnp.split(x_BTHK.astype(jnp.float32), 2, axis=-1)
    rotated = (
        first_BTHJ * cos_BT1J - second_BTHJ * sin_BT1J,
        second_BTHJ * cos_BT1J + first_BTHJ * sin_BT1J,
    )
    return jnp.concatenate(rotated, axis=-1).astype(x_BTHK.dtype)
