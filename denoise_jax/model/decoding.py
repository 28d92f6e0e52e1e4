"""Generation with a cache of static shape.

`start_cache` and `decode_step` serve any search: every leaf of the cache has the batch as its first axis, so
that beams are reordered by one indexing of the tree. `greedy` is the simplest search.

Shape letters: B batch, S source positions, T target positions, M cached positions, D width,
V padded vocabulary.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from denoise_jax.config import ModelConfig
from denoise_jax.model.layers import LayerCache
from denoise_jax.model.transformer import EncoderDecoder, module


class Cache(NamedTuple):
    """What decoding remembers: keys and values of each decoder layer, and which source tokens are real."""

    layers: tuple[LayerCache, ...]
    encoder_segment_ids_BS: jax.Array


def start_cache(
    model: EncoderDecoder, encoded_BSD: jax.Array, encoder_segment_ids_BS: jax.Array, max_length: int
) -> Cache:
    """A cache for `max_length` target positions: an empty past, the source's keys and values.

    Those of the source are computed here, once. A row holds one source: every segment id but 0 is read.
    """
    layers = []
    for layer in model.decoder.unstack_layers():
        key_BSHK, value_BSHK = layer.cross_attention.keys_values(encoded_BSD)
        batch, _, heads, width = key_BSHK.shape
        empty_BMHK = jnp.zeros((batch, max_length, heads, width), key_BSHK.dtype)
        layers.append(LayerCache(empty_BMHK, empty_BMHK, key_BSHK, value_BSHK))
    return Cache(tuple(layers), (encoder_segment_ids_BS != 0).astype(jnp.int32))


def decode_step(
    model: EncoderDecoder, tokens_B: jax.Array, index: jax.Array, cache: Cache
) -> tuple[jax.Array, Cache]:
    """Logits [B, V] of the token after `tokens_B`, which stand at target position `index` (a scalar)."""
    positions_B1 = jnp.broadcast_to(jnp.asarray(index, jnp.int32), (tokens_B.shape[0], 1))
    decoder = model.decoder
    x_B1D = decoder.embed(model.embedding(tokens_B[:, None]), positions_B1, None)
    turns_B1K = decoder.turns(positions_B1)
    layers = []
    for layer, layer_cache in zip(decoder.unstack_layers(), cache.layers, strict=True):
        x_B1D, layer_cache = layer.step(x_B1D, index, layer_cache, cache.encoder_segment_ids_BS, turns_B1K)
        layers.append(layer_cache)
    hidden_B1D = decoder.finish(x_B1D)
    return model.logits(hidden_B1D)[:, 0], cache._replace(layers=tuple(layers))


@functools.partial(jax.jit, static_argnames=("config", "vocab_size", "max_length"))
def greedy(
    config: ModelConfig,
    vocab_size: int,
    params: Mapping,
    tokens_BS: jax.Array,
    *,
    max_length: int,
    start_id: int,
    end_id: int,
) -> tuple[jax.Array, jax.Array]:
    """The likeliest token at each position, until every row has ended or `max_length` tokens are out.

    `tokens_BS` are int32 source rows padded with 0; a row of padding only (to fill up a batch) yields
    nothing.
    Returns int32 `tokens_BT`, T = max_length, without `start_id` and padded with 0 after
    `end_id`, and `lengths_B`, which counts the `end_id`. Raises ValueError where max_length exceeds the
    position table.
    """
    if max_length > config.max_positions:
        raise ValueError(f"max_length={max_length} exceeds max_positions={config.max_positions}")
    model = module(config, vocab_size, params)
    batch, source_length = tokens_BS.shape
    segments_BS = (tokens_BS != 0).astype(jnp.int32)
    positions_BS = jnp.broadcast_to(jnp.arange(source_length)[None], tokens_BS.shape)
    encoded_BSD = model.encode(tokens_BS, segments_BS, positions_BS)
    cache = start_cache(model, encoded_BSD, segments_BS, max_length)
    start_B = jnp.full((batch,), start_id, jnp.int32)
    ended_B = ~segments_BS.astype(bool).any(axis=1)
    lengths_B, output_BT = jnp.zeros((batch,), jnp.int32), jnp.zeros((batch, max_length), jnp.int32)

    def unfinished(carry):
        index, _, ended_B, _, _, _ = carry
        return (index < max_length) & ~ended_B.all()

    def extend(carry):
        index, tokens_B, ended_B, lengths_B, output_BT, cache = carry
        logits_BV, cache = decode_step(model, tokens_B, index, cache)
        tokens_B = jnp.where(ended_B, 0, logits_BV.argmax(axis=-1).astype(jnp.int32))
        output_BT = jax.lax.dynamic_update_slice_in_dim(output_BT, tokens_B[:, None], index, axis=1)
        lengths_B += (~ended_B).astype(jnp.int32)
        return index + 1, tokens_B, ended_B | (tokens_B == end_id), lengths_B, output_BT, cache

    carry = jnp.int32(0), start_B, ended_B, lengths_B, output_BT, cache
    _, _, _, lengths_B, output_BT, _ = jax.lax.while_loop(unfinished, extend, carry)
    return output_BT, lengths_B
