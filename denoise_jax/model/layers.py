"""Encoder and decoder layers of BART (Lewis et al. 2019), post-norm, or pre-norm as mBART's.

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


class LayerNorm(nnx.Module):
    """Layer norm over the last axis (Ba et al. 2016) with BART's epsilon; statistics are float32."""

    def __init__(self, config: ModelConfig):
        self.scale = nnx.Param(jnp.ones(config.embed_dim))
        self.bias = nnx.Param(jnp.zeros(config.embed_dim))
        self.dtype = jnp.dtype(config.compute_dtype)

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        """Normalised x in the compute dtype."""
        x_BTD = x_BTD.astype(jnp.float32)
        centred_BTD = x_BTD - x_BTD.mean(axis=-1, keepdims=True)
        variance_BT1 = jnp.square(centred_BTD).mean(axis=-1, keepdims=True)
        scale_BTD = jax.lax.rsqrt(variance_BT1 + 1e-5) * self.scale[None, None]
        return (centred_BTD * scale_BTD + self.bias[None, None]).astype(self.dtype)


class FeedForward(nnx.Module):
    """Two linear maps around a non-linearity, position by position."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        def linear(width_in: int, width_out: int) -> nnx.Linear:
            return nnx.Linear(
                width_in,
                width_out,
                dtype=jnp.dtype(config.compute_dtype),
                kernel_init=nnx.initializers.normal(config.init_std),
                rngs=rngs,
            )

        self.up = linear(config.embed_dim, config.ffn_dim)
        self.down = linear(config.ffn_dim, config.embed_dim)
        self.activation = config.activation
        self.dropout_rate = config.activation_dropout

    def __call__(self, x_BTD: jax.Array, dropout_key: jax.Array | None = None) -> jax.Array:
        hidden_BTF = ACTIVATIONS[self.activation](self.up(x_BTD))
        return self.down(dropout(hidden_BTF, self.dropout_rate, dropout_key))


class _Layer(nnx.Module):
    """What both kinds of layer share: self-attention, feed-forward, how a block joins the residual."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.self_attention = Attention(config, rngs)
        self.self_attention_norm = LayerNorm(config)
        self.ffn = FeedForward(config, rngs)
        self.ffn_norm = LayerNorm(config)
        self.norm_position = config.norm_position
        self.dropout_rate = config.dropout

    def _join(
        self,
        x_BTD: jax.Array,
        norm: LayerNorm,
        block: Callable[[jax.Array], jax.Array],
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        if self.norm_position == "pre":
            return x_BTD + dropout(block(norm(x_BTD)), self.dropout_rate, dropout_key)
        return norm(x_BTD + dropout(block(x_BTD), self.dropout_rate, dropout_key))


class EncoderLayer(_Layer):
    """Self-attention within segments, then feed-forward."""

    def __call__(
        self, x_BSD: jax.Array, segments_BS: jax.Array, *, dropout_key: jax.Array | None = None
    ) -> jax.Array:
        """One layer over [B, S, D] in the compute dtype."""
        keys = spread(dropout_key, 4)

        def self_attention(h_BSD):
            own = self.self_attention.keys_values(h_BSD)
            return self.self_attention(h_BSD, own, segments_BS, segments_BS, dropout_key=keys[0])

        x_BSD = self._join(x_BSD, self.self_attention_norm, self_attention, keys[1])
        return self._join(x_BSD, self.ffn_norm, lambda h_BSD: self.ffn(h_BSD, keys[2]), keys[3])


class LayerCache(NamedTuple):
    """Keys and values of one decoder layer, laid out for `attend_cached`.

    Those of the source serve all N rows that decode a prompt. What the rows have written, P = M*n slots, is
    shared by the n rows of a group: slot p*n + r holds what row r wrote at position p.
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
        self.cross_attention_norm = LayerNorm(config)

    def __call__(
        self,
        x_BTD: jax.Array,
        segments_BT: jax.Array,
        encoded_BSD: jax.Array,
        encoder_segments_BS: jax.Array,
        *,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """One layer over [B, T, D] in the compute dtype; target segment n reads source segment n."""
        keys = spread(dropout_key, 6)

        def self_attention(h_BTD):
            own = self.self_attention.keys_values(h_BTD)
            return self.self_attention(h_BTD, own, segments_BT, segments_BT, causal=True, dropout_key=keys[0])

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
    ) -> tuple[jax.Array, LayerCache]:
        """The layer at target position `index` for N rows of each prompt; returns the cache with them.

        `past_GnP` says which slots of the cache each row sees, `source_B1S` which source tokens are real.
        """

        def self_attention(h_BND):
            nonlocal cache
            h_GnD = h_BND.reshape(cache.own_key_GHKP.shape[0], -1, h_BND.shape[-1])
            key_GHKn, value_GHnK = for_cache(*self.self_attention.keys_values(h_GnD))
            write, slot = jax.lax.dynamic_update_slice_in_dim, index * h_GnD.shape[1]
            own = (
                write(cache.own_key_GHKP, key_GHKn, slot, axis=3),
                write(cache.own_value_GHPK, value_GHnK, slot, axis=2),
            )
            cache = LayerCache(*own, *cache[2:])
            return self.self_attention.cached(h_GnD, own, past_GnP).reshape(h_BND.shape)

        def cross_attention(h_BND):
            return self.cross_attention.cached(h_BND, cache[2:], source_B1S)

        x_BND = self._join(x_BND, self.self_attention_norm, self_attention)
        x_BND = self._join(x_BND, self.cross_attention_norm, cross_attention)
        return self._join(x_BND, self.ffn_norm, self.ffn), cache
