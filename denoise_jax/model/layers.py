"""Encoder and decoder layers: post-norm as in BART (Lewis et al. 2019) or pre-norm as in mBART.

Shape letters: B batch, S source positions, T target positions, D width, F feed-forward width, K head width.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from denoise_jax.config import ModelConfig
from denoise_jax.model.attention import Attention, Placement
from denoise_jax.model.dropout import dropout, named_keys
from denoise_jax.model.linear import make_linear
from denoise_jax.model.norms import Norm, make_norm


def gelu(x: jax.Array) -> jax.Array:
    """x times the normal CDF of x (Hendrycks & Gimpel 2016), exact, in the dtype of x.

    Computed through erf, which on a CPU costs far less than the erfc of `jax.nn.gelu`; internally in float32
    because 1 + erf(x) cancels for negative x.
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
    """Position-wise feed-forward layer, optionally gated (Shazeer 2020)."""

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
    """What both kinds of layers share: self-attention, feed-forward and the residual connection."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.self_attention = Attention(config, rngs)
        self.self_attention_norm = make_norm(config)
        self.ffn = FeedForward(config, rngs)
        self.ffn_norm = make_norm(config)
        self.norm_position = config.norm_position
        self.dropout_rate = config.dropout

    def residual(
        self,
        x_BTD: jax.Array,
        norm: Norm,
        block: Callable[[jax.Array], jax.Array],
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """x + block(norm(x)) if pre-norm, norm(x + block(x)) if post-norm; dropout on the block's output."""
        if self.norm_position == "pre":
            return x_BTD + dropout(block(norm(x_BTD)), self.dropout_rate, dropout_key)
        return norm(x_BTD + dropout(block(x_BTD), self.dropout_rate, dropout_key))


class EncoderLayer(_Layer):
    """Self-attention within segments, then feed-forward."""

    def __call__(
        self,
        x_BSD: jax.Array,
        segments_BS: jax.Array,
        cos_sin_BSK: jax.Array | None,
        *,
        dropout_key: jax.Array | None,
        placement: Placement,
    ) -> jax.Array:
        """[B, S, D] to [B, S, D], in the compute dtype. `cos_sin` is None without rotary positions."""
        keys = named_keys(dropout_key, "attention_weights", "attention", "ffn_hidden", "ffn")

        def self_attention(h_BSD):
            return self.self_attention(
                h_BSD,
                self.self_attention.keys_values(h_BSD, cos_sin_BSK),
                segments_BS,
                segments_BS,
                cos_sin_BSK,
                dropout_key=keys["attention_weights"],
                placement=placement,
            )

        def ffn(h_BSD):
            return self.ffn(h_BSD, keys["ffn_hidden"])

        x_BSD = self.residual(x_BSD, self.self_attention_norm, self_attention, keys["attention"])
        return self.residual(x_BSD, self.ffn_norm, ffn, keys["ffn"])


class DecoderLayer(_Layer):
    """Causal self-attention, cross-attention to the encoder's output, then feed-forward."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        super().__init__(config, rngs)
        self.cross_attention = Attention(config, rngs)
        self.cross_attention_norm = make_norm(config)

    def __call__(
        self,
        x_BTD: jax.Array,
        segments_BT: jax.Array,
        cos_sin_BTK: jax.Array | None,
        encoded_BSD: jax.Array,
        encoder_segments_BS: jax.Array,
        *,
        dropout_key: jax.Array | None,
        placement: Placement,
    ) -> jax.Array:
        """[B, T, D] to [B, T, D], in the compute dtype; target segment i attends to source segment i."""
        keys = named_keys(
            dropout_key,
            "self_attention_weights",
            "cross_attention_weights",
            "self_attention",
            "cross_attention",
            "ffn_hidden",
            "ffn",
        )

        def self_attention(h_BTD):
            return self.self_attention(
                h_BTD,
                self.self_attention.keys_values(h_BTD, cos_sin_BTK),
                segments_BT,
                segments_BT,
                cos_sin_BTK,
                causal=True,
                dropout_key=keys["self_attention_weights"],
                placement=placement,
            )

        def cross_attention(h_BTD):
            return self.cross_attention(
                h_BTD,
                self.cross_attention.keys_values(encoded_BSD),
                segments_BT,
                encoder_segments_BS,
                dropout_key=keys["cross_attention_weights"],
                placement=placement,
            )

        def ffn(h_BTD):
            return self.ffn(h_BTD, keys["ffn_hidden"])

        x_BTD = self.residual(x_BTD, self.self_attention_norm, self_attention, keys["self_attention"])
        x_BTD = self.residual(x_BTD, self.cross_attention_norm, cross_attention, keys["cross_attention"])
        return self.residual(x_BTD, self.ffn_norm, ffn, keys["ffn"])
