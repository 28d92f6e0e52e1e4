"""Greedy decoding and sampling.

Shape letters: B prompts, N rows of a prompt (samples), V padded vocabulary, k candidates of top-k, M target
positions, T history indices (M + 1; the first token is the start token).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from denoise_jax.generation import decoding
from denoise_jax.generation.cache import Cache
from denoise_jax.generation.decoding import DecodingOptions
from denoise_jax.generation.logits_processors import process_logits
from denoise_jax.generation.top_k import sample_categorical, top_k, top_p_mask
from denoise_jax.model.transformer import EncoderDecoder


class _LoopState(NamedTuple):
    index: jax.Array
    history_BNT: jax.Array
    lengths_BN: jax.Array
    scores_BN: jax.Array
    ended_BN: jax.Array
    cache: Cache


def sample(
    model: EncoderDecoder, tokens_BS: jax.Array, options: DecodingOptions, keys_B: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Takes the most likely token at each position or, if options.do_sample, draws one.

    A score is the sum of the tokens' log-probabilities (before temperature, top-k and top-p; 0 for forced
    tokens) divided by length ** length_penalty. Empty prompts (all padding) give empty outputs.

    Returns:
      int32 tokens [B, N, M] without the start token, padded with 0; int32 lengths and float32 scores [B, N].
    """
    rows, length = options.num_return_sequences, options.max_new_tokens
    step, cache = decoding.start(model, tokens_BS, length, rows, shared=False)
    if options.do_sample:
        fold = jax.vmap(jax.random.fold_in, (None, 0))
        keys_BN = jax.vmap(fold, (0, None))(keys_B, jnp.arange(rows))

    def extend(state: _LoopState) -> _LoopState:
        index = state.index
        tokens_BN = jax.lax.dynamic_index_in_dim(state.history_BNT, index, axis=2, keepdims=False)
        mask_11M = (jnp.arange(length) <= index)[None, None]
        logits_VBN, cache = step(tokens_BN, index, mask_11M, state.cache)
        log_normalizer_BN = jax.nn.logsumexp(logits_VBN, axis=0)
        logits_VBN = process_logits(options, logits_VBN, log_normalizer_BN, state.history_BNT, index)
        if options.do_sample:
            values_BN, tokens_BN = _draw(options, logits_VBN, _uniform(keys_BN, index))
        else:
            values_BN, tokens_BN = (x_BN1[..., 0] for x_BN1 in top_k(logits_VBN, 1))
        tokens_BN = jnp.where(state.ended_BN, 0, tokens_BN)
        return _LoopState(
            index + 1,
            jax.lax.dynamic_update_slice_in_dim(state.history_BNT, tokens_BN[..., None], index + 1, axis=2),
            state.lengths_BN + (~state.ended_BN).astype(jnp.int32),
            state.scores_BN + jnp.where(state.ended_BN, 0, values_BN - log_normalizer_BN),
            state.ended_BN | (tokens_BN == options.end_id),
            cache,
        )

    def unfinished(state: _LoopState) -> jax.Array:
        return (state.index < length) & ~state.ended_BN.all()

    state = _initial_state(options, (tokens_BS == 0).all(axis=1), cache)
    state = jax.lax.while_loop(unfinished, extend, state)
    penalty_BN = jnp.maximum(state.lengths_BN, 1).astype(jnp.float32) ** options.length_penalty
    return state.history_BNT[:, :, 1:], state.lengths_BN, state.scores_BN / penalty_BN


def _initial_state(options: DecodingOptions, empty_B: jax.Array, cache: Cache) -> _LoopState:
    shape = empty_B.shape[0], options.num_return_sequences
    history_BNT = jnp.zeros((*shape, options.max_new_tokens + 1), jnp.int32)
    return _LoopState(
        index=jnp.int32(0),
        history_BNT=history_BNT.at[:, :, 0].set(options.start_id),
        lengths_BN=jnp.zeros(shape, jnp.int32),
        scores_BN=jnp.zeros(shape, jnp.float32),
        ended_BN=jnp.broadcast_to(empty_B[:, None], shape),
        cache=cache,
    )


def _uniform(keys_BN: jax.Array, index: jax.Array) -> jax.Array:
    """A uniform draw from [0, 1) per row, which depends only on the row's key and the position."""
    return jax.vmap(jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, index))))(keys_BN)


def _draw(
    options: DecodingOptions, logits_VBN: jax.Array, uniform_BN: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Sampled logits and tokens, [B, N] each: temperature, then top-k, then top-p, as in Hugging Face.

    If several tokens tie for the k-th place, top-k keeps those with the lowest ids (Hugging Face keeps all).
    """
    tokens_kBN = None
    if 0 < options.top_k < logits_VBN.shape[0]:
        values_BNk, tokens_BNk = top_k(logits_VBN, options.top_k)
        logits_VBN, tokens_kBN = jnp.moveaxis(values_BNk, -1, 0), jnp.moveaxis(tokens_BNk, -1, 0)
    scaled_VBN = (logits_VBN - logits_VBN.max(axis=0, keepdims=True)) / options.temperature
    weights_VBN = jnp.exp(scaled_VBN)
    if options.top_p < 1:
        weights_VBN = jnp.where(top_p_mask(weights_VBN, options.top_p), weights_VBN, 0)
    choice_1BN = sample_categorical(weights_VBN, uniform_BN)[None]
    values_BN = jnp.take_along_axis(logits_VBN, choice_1BN, axis=0)[0]
    if tokens_kBN is None:
        return values_BN, choice_1BN[0]
    return values_BN, jnp.take_along_axis(tokens_kBN, choice_1BN, axis=0)[0]
