"""`generate_tokens`: greedy decoding, beam search or sampling on token ids, in one jitted loop."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax

from denoise_jax.config import ModelConfig
from denoise_jax.generation.beam_search import beam_search
from denoise_jax.generation.decoding import DecodingOptions
from denoise_jax.generation.sampling import sample
from denoise_jax.model.transformer import bind_params


class GeneratedTokens(NamedTuple):
    """R outputs of up to M tokens for each of B prompts, best first (samples: in the order drawn).

    Attributes:
      tokens_BRM: int32, without the start token, with </s>, padded with 0.
      lengths_BR: int32, number of tokens, </s> included; 0 for an empty prompt.
      scores_BR: float32, sum of log-probabilities (0 for forced tokens) divided by length ** length_penalty.
    """

    tokens_BRM: jax.Array
    lengths_BR: jax.Array
    scores_BR: jax.Array


@functools.partial(jax.jit, static_argnames=("config", "options"))
def generate_tokens(
    config: ModelConfig,
    params: Mapping,
    tokens_BS: jax.Array,
    options: DecodingOptions,
    keys_B: jax.Array | None = None,
) -> GeneratedTokens:
    """Generates from prompts; equivalent to Hugging Face's `generate` with the same options.

    Args:
      config: model configuration.
      params: its parameters.
      tokens_BS: int32 prompts padded with 0. Rows of padding only, which fill a batch, give empty outputs.
      options: decoding options; `max_new_tokens` is the static length of the cache, M.
      keys_B: one random key per prompt, required if options.do_sample. A prompt's samples depend on no other
        key.

    Raises:
      ValueError: max_new_tokens above config.max_positions, num_return_sequences above num_beams (unless
        sampling), or do_sample without keys.
    """
    if options.max_new_tokens > config.max_positions:
        raise ValueError(
            f"max_new_tokens={options.max_new_tokens} exceeds max_positions={config.max_positions}"
        )
    if not options.do_sample and options.num_return_sequences > options.num_beams:
        raise ValueError(
            f"num_return_sequences={options.num_return_sequences} exceeds num_beams={options.num_beams}"
        )
    if options.do_sample and keys_B is None:
        raise ValueError("do_sample requires keys_B, one key per prompt")
    model = bind_params(config, params)
    if options.do_sample or options.num_beams == 1:
        return GeneratedTokens(*sample(model, tokens_BS, options, keys_B))
    outputs = beam_search(model, tokens_BS, options)
    return GeneratedTokens(*(x_BN[:, : options.num_return_sequences] for x_BN in outputs))
