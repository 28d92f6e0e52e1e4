"""Greedy decoding and sampling, each row by itself.

Shape letters: B prompts, N rows of a prompt, V padded vocabulary, M target positions, T places of a history
(M + 1, the first is the start token).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from denoise_jax.generation import decoding
from denoise_jax.generation.logits_processors import Search, constrain
from denoise_jax.generation.top_k import draw, likeliest, nucleus
from denoise_jax.model.transformer import EncoderDecoder


class _Rows(NamedTuple):
    """The state of the loop."""

    index: jax.Array
    history_BNT: jax.Array
    lengths_BN: jax.Array
    scores_BN: jax.Array
    ended_BN: jax.Array
    cache: decoding.Cache


def sample(
    model: EncoderDecoder, tokens_BS: jax.Array, options: Search, keys_B: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """int32 tokens [B, N, M] without the start, padded with 0; int32 lengths and float32 scores [B, N].

    Each token is the likeliest, or a draw where options.do_sample. The score is the sum of the tokens'
    log-probabilities, those of the model before temperature, top-k and top-p, over length ** length_penalty;
    forced tokens count 0. Prompts of padding only are done from the beginning.
    """
    count, length = options.num_return_sequences, options.max_new_tokens
    step, cache = decoding.start(model, tokens_BS, length, count, shared=False)
    if options.do_sample:
        fold = jax.vmap(jax.random.fold_in, (None, 0))
        keys_BN = jax.vmap(fold, (0, None))(keys_B, jnp.arange(count))

    def extend(rows: _Rows) -> _Rows:
        index = rows.index
        tokens_BN = jax.lax.dynamic_index_in_dim(rows.history_BNT, index, axis=2, keepdims=False)
        past_11M = (jnp.arange(length) <= index)[None, None]
        logits_VBN, cache = step(tokens_BN, index, past_11M, rows.cache)
        total_BN = jax.nn.logsumexp(logits_VBN, axis=0)
        logits_VBN = constrain(options, logits_VBN, total_BN, rows.history_BNT, index)
        if options.do_sample:
            values_BN, tokens_BN = _draw(options, logits_VBN, _uniform(keys_BN, index))
        else:
            values_BN, tokens_BN = (x_BN1[..., 0] for x_BN1 in likeliest(logits_VBN, 1))
        tokens_BN = jnp.where(rows.ended_BN, 0, tokens_BN)
        return _Rows(
            index + 1,
            jax.lax.dynamic_update_slice_in_dim(rows.history_BNT, tokens_BN[..., None], index + 1, axis=2),
            rows.lengths_BN + (~rows.ended_BN).astype(jnp.int32),
            rows.scores_BN + jnp.where(rows.ended_BN, 0, values_BN - total_BN),
            rows.ended_BN | (tokens_BN == options.end_id),
            cache,
        )

    rows = _start(options, (tokens_BS != 0).any(axis=1), cache)
    going_on = lambda rows: (rows.index < length) & ~rows.ended_BN.all()  # noqa: E731
    rows = jax.lax.while_loop(going_on, extend, rows)
    penalty_BN = jnp.maximum(rows.lengths_BN, 1).astype(jnp.float32) ** options.length_penalty
    return rows.history_BNT[:, :, 1:], rows.lengths_BN, rows.scores_BN / penalty_BN


def _start(options: Search, real_B: jax.Array, cache: decoding.Cache) -> _Rows:
    batch, count = real_B.shape[0], options.num_return_sequences
    history_BNT = jnp.zeros((batch, count, options.max_new_tokens + 1), jnp.int32)
    return _Rows(
        jnp.int32(0),
        history_BNT.at[:, :, 0].set(options.start_id),
        jnp.zeros((batch, count), jnp.int32),
        jnp.zeros((batch, count), jnp.float32),
        jnp.broadcast_to(~real_B[:, None], (batch, count)),
        cache,
    )


def _uniform(keys_BN: jax.Array, index: jax.Array) -> jax.Array:
    """A number in [0, 1) for each row at this position, which depends on the row's key alone."""
    return jax.vmap(jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, index))))(keys_BN)


def _draw(options: Search, logits_VBN: jax.Array, uniform_BN: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logits and tokens drawn, [B, N] each: temperature, then top-k, then top-p, as Hugging Face has them.

    Of tokens as likely as the k-th, top-k keeps those of lower ids (Hugging Face keeps all).
    """
    columns = logits_VBN.shape[0]
    tokens_kBN = None
    if 0 < options.top_k < columns:
        values_BNk, tokens_BNk = likeliest(logits_VBN, options.top_k)
        logits_VBN, tokens_kBN = jnp.moveaxis(values_BNk, -1, 0), jnp.moveaxis(tokens_BNk, -1, 0)
    scaled_VBN = (logits_VBN - logits_VBN.max(axis=0, keepdims=True)) / options.temperature
    weights_VBN = jnp.exp(scaled_VBN)
    if options.top_p < 1:
        weights_VBN = jnp.where(nucleus(weights_VBN, options.top_p), weights_VBN, 0)
    place_1BN = draw(weights_VBN, uniform_BN)[None]
    values_BN = jnp.take_along_axis(logits_VBN, place_1BN, axis=0)[0]
    if tokens_kBN is None:
        return values_BN, place_1BN[0]
    return values_BN, jnp.take_along_axis(tokens_kBN, place_1BN, axis=0)[0]
