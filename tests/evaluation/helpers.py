"""Parameters to evaluate, compiled once per architecture."""

import functools

import jax

from denoise_jax.config import ModelConfig
from denoise_jax.model.transformer import init_params


@functools.cache
def initial_params(config: ModelConfig) -> dict:
    """Fresh parameters of the architecture, from seed 0."""
    return jax.jit(lambda: init_params(config, jax.random.key(0)))()
