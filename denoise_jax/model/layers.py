"""Encoder and decoder layers by configuration: post-norm as BART (Lewis et al. 2019), pre-norm as mBART.

Shape letters: B batch, S source positions, T target positions, M cached positions, D width, F feed-forward
width, H heads, K head width.
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
    """Keys and values of one decoder layer: its own past [B, M, H, K] and the source [B, S, H, K].

    Keys of the past are held as the queries meet them: rotated already, where positions are rotary.
    """

    self_key_BMHK: jax.Array
    self_value_BMHK: jax.Array
    cross_key_BSHK: jax.Array
    cross_value_BSHK: jax.Array


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
        x_B1D: jax.Array,
        index: jax.Array,
        cache: LayerCache,
        encoder_segments_BS: jax.Array,
        turns_B1K: jax.Array | None,
    ) -> tuple[jax.Array, LayerCache]:
        """The layer at one target position, given the cache of those before; returns the cache with it."""
        query_segments_B1 = jnp.ones_like(encoder_segments_BS[:, :1])
        batch, length = cache.self_key_BMHK.shape[:2]
        past_BM = jnp.broadcast_to((jnp.arange(length) <= index).astype(jnp.int32)[None], (batch, length))

        def self_attention(h_B1D):
            nonlocal cache
            key_B1HK, value_B1HK = self.self_attention.keys_values(h_B1D, turns_B1K)
            cache = cache._replace(
                self_key_BMHK=jax.lax.dynamic_update_slice_in_dim(cache.self_key_BMHK, key_B1HK, index, 1),
                self_value_BMHK=jax.lax.dynamic_update_slice_in_dim(
                    cache.self_value_BMHK, value_B1HK, index, 1
                ),
            )
            own = cache.self_key_BMHK, cache.self_value_BMHK
            return self.self_attention(h_B1D, own, query_segments_B1, past_BM, turns_B1K)

        def cross_attention(h_B1D):
            source = cache.cross_key_BSHK, cache.cross_value_BSHK
            return self.cross_attention(h_B1D, source, query_segments_B1, encoder_segments_BS)

        x_B1D = self._join(x_B1D, self.self_attention_norm, self_attention)
        x_B1D = self._join(x_B1D, self.cross_attention_norm, cross_attention)
        return self._join(x_B1D, self.ffn_norm, self.ffn), cache
