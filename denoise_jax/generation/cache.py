"""Decoder layers applied to one target position at a time, with cached keys and values.

Each of B prompts is decoded in N rows: beams or samples. Keys and values of the source are computed once and
serve all rows of a prompt. Those of the target positions decoded so far are shared by the n rows of a group,
in P = M*n slots: slot p*n + r holds what row r generated at position p. The beams of a prompt are one group
(G = B, n = N); samples are a group each (G = B*N, n = 1).

Shape letters: B prompts, N rows of a prompt, G groups of n rows, S source positions, M target positions,
P cache slots, D width, H heads, K head width.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from denoise_jax.model.attention import LOWEST_MAXIMUM, MASKED, Attention
from denoise_jax.model.layers import DecoderLayer


class LayerCache(NamedTuple):
    """Keys and values of one decoder layer, laid out for `attend_cached`; target keys are rotated already."""

    target_key_GHKP: jax.Array
    target_value_GHPK: jax.Array
    source_key_BHKS: jax.Array
    source_value_BHSK: jax.Array


class Cache(NamedTuple):
    """The cache of all decoder layers, and which source tokens are not padding."""

    layers: tuple[LayerCache, ...]
    source_mask_B1S: jax.Array


def init_layer_cache(
    layer: DecoderLayer, encoded_BSD: jax.Array, max_length: int, rows: int, group_rows: int
) -> LayerCache:
    """Keys and values of the encoder's output, and zeros for `max_length` target positions (M).

    `rows` is N, the rows of a prompt, and `group_rows` is n.
    """
    source = _for_cache(*layer.cross_attention.keys_values(encoded_BSD))
    prompts, heads, _, head_width = source[1].shape
    groups = prompts * rows // group_rows
    value_GHPK = jnp.zeros((groups, heads, max_length * group_rows, head_width), source[1].dtype)
    return LayerCache(value_GHPK.swapaxes(2, 3), value_GHPK, *source)


def layer_step(
    layer: DecoderLayer,
    x_BND: jax.Array,
    index: jax.Array,
    cache: LayerCache,
    mask_GnP: jax.Array,
    source_mask_B1S: jax.Array,
    cos_sin_11K: jax.Array | None,
) -> tuple[jax.Array, LayerCache]:
    """A decoder layer at target position `index`; also returns the cache with that position added.

    `mask_GnP` says which cache slots each row sees, those of `index` included. `cos_sin` is None without
    rotary positions.
    """

    def self_attention(h_BND):
        nonlocal cache
        h_GnD = h_BND.reshape(cache.target_key_GHKP.shape[0], -1, h_BND.shape[-1])
        key_GHKn, value_GHnK = _for_cache(*layer.self_attention.keys_values(h_GnD, cos_sin_11K))
        write, slot = jax.lax.dynamic_update_slice_in_dim, index * h_GnD.shape[1]
        cache = cache._replace(
            target_key_GHKP=write(cache.target_key_GHKP, key_GHKn, slot, axis=3),
            target_value_GHPK=write(cache.target_value_GHPK, value_GHnK, slot, axis=2),
        )
        keys_values = cache.target_key_GHKP, cache.target_value_GHPK
        mixed_GnD = _attention(layer.self_attention, h_GnD, keys_values, mask_GnP, cos_sin_11K)
        return mixed_GnD.reshape(h_BND.shape)

    def cross_attention(h_BND):
        keys_values = cache.source_key_BHKS, cache.source_value_BHSK
        return _attention(layer.cross_attention, h_BND, keys_values, source_mask_B1S)

    x_BND = layer.residual(x_BND, layer.self_attention_norm, self_attention)
    x_BND = layer.residual(x_BND, layer.cross_attention_norm, cross_attention)
    return layer.residual(x_BND, layer.ffn_norm, layer.ffn), cache


def attend_cached(
    query_GnHK: jax.Array, key_GHKP: jax.Array, value_GHPK: jax.Array, mask_GnP: jax.Array
) -> jax.Array:
    """`attend` for the n queries of each group over cached keys and values; returns [G, n, H, K].

    Cached arrays have the layout that matrix products need, so no step transposes them: on a CPU this makes
    attention five times as fast. Axes of the mask may have size 1. In cross-attention a group is a prompt
    (G = B, n = N), and the slots are its source positions (P = S).
    """
    scale = query_GnHK.shape[-1] ** -0.5
    scores_GHnP = jnp.einsum(
        "GnHK,GHKP->GHnP", query_GnHK * scale, key_GHKP, preferred_element_type=jnp.float32
    )
    scores_GHnP = jnp.where(mask_GnP[:, None], scores_GHnP, MASKED)
    maximum_GHn1 = jnp.maximum(scores_GHnP.max(axis=-1, keepdims=True), LOWEST_MAXIMUM)
    weights_GHnP = jnp.exp(scores_GHnP - maximum_GHn1)
    total_GHn1 = jnp.maximum(weights_GHnP.sum(axis=-1, keepdims=True), 0.5)
    mixed_GHnK = jnp.einsum("GHnP,GHPK->GHnK", weights_GHnP.astype(value_GHPK.dtype), value_GHPK)
    return (mixed_GHnK.astype(jnp.float32) / total_GHn1).astype(mixed_GHnK.dtype).swapaxes(1, 2)


def _attention(
    attention: Attention,
    x_GnD: jax.Array,
    keys_values: tuple[jax.Array, jax.Array],
    mask_GnP: jax.Array,
    cos_sin_11K: jax.Array | None = None,
) -> jax.Array:
    mixed_GnHK = attend_cached(attention.queries(x_GnD, cos_sin_11K), *keys_values, mask_GnP)
    return attention.out(mixed_GnHK.reshape(x_GnD.shape))


def _for_cache(key_BSHK: jax.Array, value_BSHK: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Keys [B, H, K, S] and values [B, H, S, K], the layout of `LayerCache`."""
    return key_BSHK.transpose(0, 2, 3, 1), value_BSHK.transpose(0, 2, 1, 3)
