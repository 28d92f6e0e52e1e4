"""LayerNorm and RMSNorm, with statistics in float32.

Shape letters: B batch, T positions, D width.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from denoise_jax.config import ModelConfig


class LayerNorm(nnx.Module):
    """LayerNorm over the last axis (Ba et al. 2016), with BART's epsilon."""

    def __init__(self, config: ModelConfig):
        self.scale = nnx.Param(jnp.ones(config.embed_dim))
        self.bias = nnx.Param(jnp.zeros(config.embed_dim))
        self.dtype = jnp.dtype(config.compute_dtype)

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        """x normalised, in the compute dtype."""
        x_BTD = x_BTD.astype(jnp.float32)
        centered_BTD = x_BTD - x_BTD.mean(axis=-1, keepdims=True)
        variance_BT1 = jnp.square(centered_BTD).mean(axis=-1, keepdims=True)
        scale_BTD = jax.lax.rsqrt(variance_BT1 + 1e-5) * self.scale[None, None]
        return (centered_BTD * scale_BTD + self.bias[None, None]).astype(self.dtype)


class RMSNorm(nnx.Module):
    """RMSNorm over the last axis (Zhang & Sennrich 2019), with T5's epsilon."""

    def __init__(self, config: ModelConfig):
        self.scale = nnx.Param(jnp.ones(config.embed_dim))
        self.dtype = jnp.dtype(config.compute_dtype)

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        """x normalised, in the compute dtype."""
        x_BTD = x_BTD.astype(jnp.float32)
        square_BT1 = jnp.square(x_BTD).mean(axis=-1, keepdims=True)
        scale_BTD = jax.lax.rsqrt(square_BT1 + 1e-6) * self.scale[None, None]
        return (x_BTD * scale_BTD).astype(self.dtype)


Norm = LayerNorm | RMSNorm


def make_norm(config: ModelConfig) -> Norm:
    """The norm named by `config.norm`, of width `embed_dim`."""
    return {"layer": LayerNorm, "rms": RMSNorm}[config.norm](config)
