"""The likeliest tokens, and draws, from logits [V, B, N], without sorting the vocabulary.

On a CPU XLA takes 300 ms to sort 50,000 logits of 32 rows, and 7 ms to find their argmax. Here the vocabulary
is cut into groups: their maxima (or sums) tell which few need a closer look.

Shape letters: V padded vocabulary, B prompts, N rows of a prompt, k candidates, A groups of g tokens.
"""

import math

import jax
import jax.numpy as jnp

_GROUP = 64  # tokens; near the root of V / k for common sizes


def _grouped(x_VBN: jax.Array) -> jax.Array:
    """[A, g, B, N]; g divides V."""
    size = math.gcd(x_VBN.shape[0], _GROUP)
    return x_VBN.reshape(-1, size, *x_VBN.shape[1:])


def _look_up(x_AgBN: jax.Array, groups_BNk: jax.Array) -> jax.Array:
    """The tokens of the chosen groups, [B, N, k, g]."""
    _, _, batch, rows = x_AgBN.shape
    return x_AgBN[groups_BNk, :, jnp.arange(batch)[:, None, None], jnp.arange(rows)[None, :, None]]


def likeliest(logits_VBN: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """The k largest logits and their tokens, [B, N, k] each, best first; of equals the lower token is first.

    The k largest stand in the k groups of largest maxima. k is at most V.
    """
    x_AgBN = _grouped(logits_VBN)
    count, size = x_AgBN.shape[:2]
    maxima_BNA = jnp.moveaxis(x_AgBN.max(axis=1), 0, -1)
    _, groups_BNk = jax.lax.top_k(maxima_BNA, min(k, count))
    groups_BNk = jnp.sort(groups_BNk, axis=-1)  # so that candidates stand in the order of their ids
    near = _look_up(x_AgBN, groups_BNk)
    values_BNk, places_BNk = jax.lax.top_k(near.reshape(*near.shape[:2], -1), k)
    tokens_BNk = jnp.take_along_axis(groups_BNk, places_BNk // size, axis=-1) * size + places_BNk % size
    return values_BNk, tokens_BNk


def nucleus(weights_VBN: jax.Array, top_p: float) -> jax.Array:
    """Bool [V, B, N]: tokens before which, from the likeliest on, less than `top_p` is reached.

    Holtzman et al. 2020. Weights are probabilities up to a factor, at most 1 each. The bits of positive
    floats are in the order of the floats, so the threshold is found by halving, in 30 sums, exactly.
    """
    reach_BN = top_p * weights_VBN.sum(axis=0)
    one = jax.lax.bitcast_convert_type(jnp.float32(1), jnp.int32)

    def halve(_, bounds):
        low_BN, high_BN = bounds  # the threshold is in (low, high]
        middle_BN = low_BN + (high_BN - low_BN) // 2
        threshold_BN = jax.lax.bitcast_convert_type(middle_BN, jnp.float32)
        above_BN = jnp.where(weights_VBN > threshold_BN[None], weights_VBN, 0).sum(axis=0)
        enough_BN = above_BN < reach_BN
        return jnp.where(enough_BN, low_BN, middle_BN), jnp.where(enough_BN, middle_BN, high_BN)

    bounds = jnp.full(reach_BN.shape, -1, jnp.int32), jnp.broadcast_to(one, reach_BN.shape)
    _, high_BN = jax.lax.fori_loop(0, 31, halve, bounds)
    return weights_VBN >= jax.lax.bitcast_convert_type(high_BN, jnp.float32)[None]


def draw(weights_VBN: jax.Array, uniform_BN: jax.Array) -> jax.Array:
    """A token for each row, int32 [B, N], with probability proportional to its weight; never one of weight 0.

    Where the running sum of weights passes `uniform_BN`, in [0, 1), of the whole: first among groups, then
    within one.
    """
    x_AgBN = _grouped(weights_VBN)
    size = x_AgBN.shape[1]
    sums_BNA = jnp.moveaxis(x_AgBN.sum(axis=1), 0, -1)
    running_BNA = jnp.cumsum(sums_BNA, axis=-1)
    target_BN1 = uniform_BN[..., None] * running_BNA[..., -1:]
    group_BN1 = jnp.argmax(running_BNA > target_BN1, axis=-1, keepdims=True)
    before_BN1 = jnp.take_along_axis(running_BNA - sums_BNA, group_BN1, axis=-1)
    inside_BNg = _look_up(x_AgBN, group_BN1)[:, :, 0]
    passed_BNg = jnp.cumsum(inside_BNg, axis=-1) > target_BN1 - before_BN1
    # Sums in another order differ in the last digit, so that the group may end before the target is passed.
    passed_BNg = jnp.where(passed_BNg.any(axis=-1, keepdims=True), passed_BNg, True) & (inside_BNg > 0)
    place_BN = jnp.argmax(passed_BNg, axis=-1)
    return (group_BN1[..., 0] * size + place_BN).astype(jnp.int32)
