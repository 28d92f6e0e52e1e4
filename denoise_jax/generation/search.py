"""`generate_tokens`: token ids in, token ids out, by greedy decoding, beam search or sampling in one jitted loop."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax

from denoise_jax.config import ModelConfig
from denoise_jax.generation.beam_search import beam_search
from denoise_jax.generation.logits_processors import Search
from denoise_jax.generation.sampling import sample
from denoise_jax.model.transformer import bind_params


class Generated(NamedTuple):
    """R outputs of each of B prompts, best first (samples: as drawn), of up to M tokens.

    `tokens_BRM`: int32, without the start token, with the end token, padded with 0 behind it.
    `lengths_BR`: int32, tokens with the end token; 0 for a prompt of padding only.
    `scores_BR`: float32, sum of log-probabilities over length ** length_penalty; forced tokens count 0.
    """

    tokens_BRM: jax.Array
    lengths_BR: jax.Array
    scores_BR: jax.Array


@functools.partial(jax.jit, static_argnames=("config", "options"))
def generate_tokens(
    config: ModelConfig,
    params: Mapping,
    tokens_BS: jax.Array,
    options: Search,
    keys_B: jax.Array | None = None,
) -> Generated:
    """Outputs for prompts, as Hugging Face's `generate` would write them with these options.

    Args:
      config: the model's shape.
      params: of the model.
      tokens_BS: int32 prompts padded with 0; a row of padding only (to fill a batch) yields nothing.
      options: what to search for; max_new_tokens is the static length M of the cache.
      keys_B: a random key for each prompt, where options.do_sample. A prompt's draws depend on its key only.

    Raises:
      ValueError: max_new_tokens beyond config.max_positions; more outputs than beams; no keys to draw with.
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
        raise ValueError("do_sample draws from keys_B, one key for each prompt")
    model = bind_params(config, params)
    if options.do_sample or options.num_beams == 1:
        return Generated(*sample(model, tokens_BS, options, keys_B))
    found = beam_search(model, tokens_BS, options)
    return Generated(*(x_BN[:, : options.num_return_sequences] for x_BN in found))
