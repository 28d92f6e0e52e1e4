"""BART's classification head.

Shape letters: B batch, T positions, D width, C classes.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from denoise_jax.config import ModelConfig
from denoise_jax.model.dropout import dropout, named_keys
from denoise_jax.model.linear import make_linear


class Classifier(nnx.Module):
    """Dropout, dense layer, tanh, dropout, output layer, as in Hugging Face's BART. Always with biases."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        width = config.embed_dim
        self.dense = make_linear(config, rngs, width, width, use_bias=True, dtype="float32")
        self.out = make_linear(config, rngs, width, config.num_classes, use_bias=True, dtype="float32")
        self.dropout_rate = config.classifier_dropout

    def __call__(self, hidden_BTD: jax.Array, dropout_key: jax.Array | None = None) -> jax.Array:
        """Logits [B, T, C]. Computed in float32: the head is cheap next to the layers."""
        keys = named_keys(dropout_key, "input", "hidden")
        hidden_BTD = self.dense(dropout(hidden_BTD, self.dropout_rate, keys["input"]))
        return self.out(dropout(jnp.tanh(hidden_BTD), self.dropout_rate, keys["hidden"]))
