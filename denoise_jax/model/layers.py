"""Encoder and decoder layers by configuration: post-norm as BART (Lewis et al. 2019), pre-norm as mBART.

Shape letters: B batch, S source positions, T target positions, D width, F feed-forward width, H heads, K head
width. Decoding: N rows that decode a prompt, G groups of n rows that share a cache, M target positions, P
slots.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from denoise_jax.config import ModelConfig
from denoise_jax.model.attention import Attention
from denoise_jax.model.dropout import dropout, spread
from denoise_jax.model.linear import make_linear
from denoise_jax.model.norms import Norm, make_norm


def gelu(x: jax.Array) -> jax.Array:
    """x times the normal distribution function of x (Hendrycks & Gimpel 2016), exact, in the dtype of x.

    Through erf, which on a CPU costs far less than the erfc of `jax.nn.gelu`; in float32 inside, as 1 + erf
    cancels for negative x.
    """
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1 + jax.lax.erf(wide * 0.5**0.5))).astype(x.dtype)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}


class FeedForward(nnx.Module):
    """Two linear maps around a non-linearity, position by position; three where gated (Shazeer 2020)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.up = make_linear(config, rngs, config.embed_dim, config.ffn_dim)
        self.down = make_linear(config, rngs, config.ffn_dim, config.embed_dim)
        if config.gated_ffn:
            self.gate = make_linear(config, rngs, config.embed_dim, config.ffn_dim)
        self.gated = config.gated_ffn
        self.activation = config.activation
        self.dropout_rate = config.activation_dropout

    def __call__(self, x_BTD: jax.Array, dropout_key: jax.Array | None = None) -> jax.Array:
        activate = ACTIVATIONS[self.activation]
        hidden_BTF = activate(self.gate(x_BTD)) * self.up(x_BTD) if self.gated else activate(self.up(x_BTD))
        return self.down(dropout(hidden_BTF, self.dropout_rate, dropout_key))


class _Layer(nnx.Module):
    """What both kinds of layer share: self-attention, feed-forward, how a block joins the residual."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.self_attention = Attention(config, rngs)
        self.self_attention_norm = make_norm(config)
        self.ffn = FeedForward(config, rngs)
        self.ffn_norm = make_norm(config)
        self.norm_position = config.norm_position
        self.dropout_rate = config.dropout

    def _join(
        self,
        x_BTD: jax.Array,
        norm: Norm,
        block: Callable[[jax.Array], jax.Array],
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        if self.norm_position == "pre":
            return x_BTD + dropout(block(norm(x_BTD)), self.dropout_rate, dropout_key)
        return norm(x_BTD + dropout(block(x_BTD), self.dropout_rate, dropout_key))


class EncoderLayer(_Layer):
    """Self-attention within segments, then feed-forward."""

    def __call__(
        self,
        x_BSD: jax.Array,
        segments_BS: jax.Array,
        turns_BSK: jax.Array | None,
        *,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """One layer over [B, S, D] in the compute dtype; `turns` are those of rotary positions, if any."""
        keys = spread(dropout_key, 4)

        def self_attention(h_BSD):
            own = self.self_attention.keys_values(h_BSD, turns_BSK)
            return self.self_attention(h_BSD, own, segments_BS, segments_BS, turns_BSK, dropout_key=keys[0])

        x_BSD = self._join(x_BSD, self.self_attention_norm, self_attention, keys[1])
        return self._join(x_BSD, self.ffn_norm, lambda h_BSD: self.ffn(h_BSD, keys[2]), keys[3])


class LayerCache(NamedTuple):
    """Keys and values of one decoder layer, laid out for `attend_cached`.

    Those of the source serve all N rows that decode a prompt. What the rows have written, P = M*n slots, is
    shared by the n rows of a group: slot p*n + r holds what row r wrote at position p, turned already where
    positions are rotary.
    Beams are one group (G = B, n = N), samples a group each (G = B*N, n = 1).
    """

    own_key_GHKP: jax.Array
    own_value_GHPK: jax.Array
    source_key_BHKS: jax.Array
    source_value_BHSK: jax.Array


def for_cache(key_BSHK: jax.Array, value_BSHK: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Keys [B, H, K, S] and values [B, H, S, K], as `LayerCache` holds them."""
    return key_BSHK.transpose(0, 2, 3, 1), value_BSHK.transpose(0, 2, 1, 3)


class DecoderLayer(_Layer):
    """Causal self-attention, attention over the encoder's output, then feed-forward."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        super().__init__(config, rngs)
        self.cross_attention = Attention(config, rngs)
        self.cross_attention_norm = make_norm(config)

    def __call__(
        self,
        x_BTD: jax.Array,
        segments_BT: jax.Array,
        turns_BTK: jax.Array | None,
        encoded_BSD: jax.Array,
        encoder_segments_BS: jax.Array,
        *,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """One layer over [B, T, D] in the compute dtype; target segment n reads source segment n."""
        keys = spread(dropout_key, 6)

        def self_attention(h_BTD):
            own = self.self_attention.keys_values(h_BTD, turns_BTK)
            segments = segments_BT, segments_BT
            return self.self_attention(h_BTD, own, *segments, turns_BTK, causal=True, dropout_key=keys[0])

        def cross_attention(h_BTD):
            source = self.cross_attention.keys_values(encoded_BSD)
            return self.cross_attention(h_BTD, source, segments_BT, encoder_segments_BS, dropout_key=keys[1])

        x_BTD = self._join(x_BTD, self.self_attention_norm, self_attention, keys[2])
        x_BTD = self._join(x_BTD, self.cross_attention_norm, cross_attention, keys[3])
        return self._join(x_BTD, self.ffn_norm, lambda h_BTD: self.ffn(h_BTD, keys[4]), keys[5])

    def step(
        self,
        x_BND: jax.Array,
        index: jax.Array,
        cache: LayerCache,
        past_GnP: jax.Array,
        source_B1S: jax.Array,
        turns_11K: jax.Array | None,
    ) -> tuple[jax.Array, LayerCache]:
        """The layer at target position `index` for N rows of each prompt; returns the cache with them.

        `past_GnP` says which slots of the cache each row sees, `source_B1S` which source tokens are real;
        `turns` are those of rotary positions, if any.
        """

        def self_attention(h_BND):
            nonlocal cache
            h_GnD = h_BND.reshape(cache.own_key_GHKP.shape[0], -1, h_BND.shape[-1])
            key_GHKn, value_GHnK = for_cache(*self.self_attention.keys_values(h_GnD, turns_11K))
            write, slot = jax.lax.dynamic_update_slice_in_dim, index * h_GnD.shape[1]
            own = (
                write(cache.own_key_GHKP, key_GHKn, slot, axis=3),
                write(cache.own_value_GHPK, value_GHnK, slot, axis=2),
            )
            cache = LayerCache(*own, *cache[2:])
            return self.self_attention.cached(h_GnD, own, past_GnP, turns_11K).reshape(h_BND.shape)

        def cross_attention(h_BND):
            return self.cross_attention.cached(h_BND, cache[2:], source_B1S)

        x_BND = self._join(x_BND, self.self_attention_norm, self_attention)
        x_BND = self._join(x_BND, self.cross_attention_norm, cross_attention)
        return self._join(x_BND, self.ffn_norm, self.ffn), cache
