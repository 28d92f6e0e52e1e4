"""The classification head of BART.

Shape letters: B batch, T positions, D width, C classes.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from denoise_jax.config import ModelConfig
from denoise_jax.model.dropout import dropout, spread
from denoise_jax.model.linear import make_linear


class Classifier(nnx.Module):
    """Dropout, dense layer, tanh, dropout, classes: as in Hugging Face's BART. Always with biases."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        width = config.embed_dim
        self.dense = make_linear(config, rngs, width, width, use_bias=True, dtype="float32")
        self.out = make_linear(config, rngs, width, config.num_classes, use_bias=True, dtype="float32")
        self.dropout_rate = config.classifier_dropout

    def __call__(self, hidden_BTD: jax.Array, dropout_key: jax.Array | None = None) -> jax.Array:
        """Scores [B, T, C], float32 throughout: classes are few, and the head is small beside the layers."""
        first_key, second_key = spread(dropout_key, 2)
        hidden_BTD = self.dense(dropout(hidden_BTD, self.dropout_rate, first_key))
        return self.out(dropout(jnp.tanh(hidden_BTD), self.dropout_rate, second_key))
