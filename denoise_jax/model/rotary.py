"""Rotary positions (RoFormer, Su et al. 2021): a query and a key meet turned by how far apart they stand.

The head width K is K/2 planes. Number k of the first half and number k of the second make a plane, as in
GPT-NeoX and Llama; the paper pairs neighbours, which is the same model with its numbers in another order.

Shape letters: B batch, T positions, H heads, K head width, R = K/2 planes.
"""

import jax
import jax.numpy as jnp


def turns(positions_BT: jax.Array, head_width: int, theta: float) -> jax.Array:
    """Cosines, then sines of every plane's angle at each position: float32 [B, T, K].

    Plane k of R turns by theta ** (-k / R) radians from one position to the next. To be computed once for all
    layers, from the positions of a batch, which begin anew in each packed segment.
    """
    planes = head_width // 2
    speed_R = theta ** (-jnp.arange(planes, dtype=jnp.float32) / planes)
    angle_BTR = positions_BT.astype(jnp.float32)[..., None] * speed_R[None, None]
    return jnp.concatenate([jnp.cos(angle_BTR), jnp.sin(angle_BTR)], axis=-1)


def rotate(x_BTHK: jax.Array, turns_BTK: jax.Array | None) -> jax.Array:
    """Queries or keys turned by `turns`, in float32 inside, in their own dtype; as they are without turns."""
    if turns_BTK is None:
        return x_BTHK
    cosine_BT1R, sine_BT1R = jnp.split(turns_BTK[:, :, None], 2, axis=-1)
    first_BTHR, second_BTHR = jnp.split(x_BTHK.astype(jnp.float32), 2, axis=-1)
    turned = (
        first_BTHR * cosine_BT1R - second_BTHR * sine_BT1R,
        second_BTHR * cosine_BT1R + first_BTHR * sine_BT1R,
    )
    return jnp.concatenate(turned, axis=-1).astype(x_BTHK.dtype)
