"""Beam search as defined by Hugging Face transformers 5.

Each step ranks the 2N best continuations of a prompt's N beams. Those that end (by </s> or by the maximum
length) and are among the best N compete for the N places of finished outputs, by score divided by
length ** length_penalty. The best N of the others are the next beams. A prompt is done when its beams are
unlikely to improve on its finished outputs, as `early_stopping` defines it.

Shape letters: B prompts, N beams, C candidates of a prompt (2N), E candidates of a beam, V padded vocabulary,
M target positions, P cache slots (M*N), T history indices (M + 1; the first token is the start token).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from denoise_jax.generation import decoding
from denoise_jax.generation.cache import Cache
from denoise_jax.generation.decoding import DecodingOptions
from denoise_jax.generation.logits_processors import process_logits
from denoise_jax.generation.top_k import top_k
from denoise_jax.model.transformer import EncoderDecoder

# Score of a missing beam or output. Hugging Face uses the same number, and it can occur in results.
_MISSING = -1e9


class _Finished(NamedTuple):
    """The best finished outputs so far, best first. `exists_BN` is false for places not yet taken."""

    history_BNT: jax.Array
    lengths_BN: jax.Array
    scores_BN: jax.Array
    exists_BN: jax.Array


class _LoopState(NamedTuple):
    """`ancestors_BNM`: for each beam, the beam in whose slot the key and value of each position are."""

    index: jax.Array
    history_BNT: jax.Array
    scores_BN: jax.Array
    ancestors_BNM: jax.Array
    finished: _Finished
    improvable_B: jax.Array
    unfinished: jax.Array
    cache: Cache


class _Candidates(NamedTuple):
    """The best continuations of a prompt, best first. `parents_BC` are the beams they continue."""

    history_BCT: jax.Array
    parents_BC: jax.Array
    scores_BC: jax.Array
    ends_BC: jax.Array


def beam_search(
    model: EncoderDecoder, tokens_BS: jax.Array, options: DecodingOptions
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The N best outputs of each prompt, best first.

    A score is the sum of the tokens' log-probabilities (0 for forced tokens) divided by
    length ** length_penalty. Empty prompts (all padding) give empty outputs.

    Returns:
      int32 tokens [B, N, M] without the start token, padded with 0; int32 lengths and float32 scores [B, N].
    """
    batch, beams, length = tokens_BS.shape[0], options.num_beams, options.max_new_tokens
    step, cache = decoding.start(model, tokens_BS, length, beams, shared=True)
    nonempty_B = (tokens_BS != 0).any(axis=1)

    def extend(state: _LoopState) -> _LoopState:
        index = state.index
        ancestors_BNM = jax.lax.dynamic_update_slice_in_dim(
            state.ancestors_BNM,
            jnp.broadcast_to(jnp.arange(beams)[None, :, None], (batch, beams, 1)),
            index,
            axis=2,
        )
        tokens_BN = jax.lax.dynamic_index_in_dim(state.history_BNT, index, axis=2, keepdims=False)
        logits_VBN, cache = step(tokens_BN, index, _ancestor_mask(ancestors_BNM, index), state.cache)
        candidates = _candidates(options, logits_VBN, state)
        scores_BN, chosen_BN = jax.lax.top_k(_rank_last(candidates.scores_BC, candidates.ends_BC), beams)
        finished = _update_finished(options, candidates, state)
        improvable_B = state.improvable_B & _improvable(options, index + 1, scores_BN, finished)
        all_full = (finished.exists_BN.all(axis=1) | ~nonempty_B).all() & (options.early_stopping is True)
        all_end = (candidates.ends_BC.all(axis=1) | ~nonempty_B).all()
        return _LoopState(
            index + 1,
            _take(candidates.history_BCT, chosen_BN),
            scores_BN,
            _take(ancestors_BNM, _take(candidates.parents_BC, chosen_BN)),
            finished,
            improvable_B,
            improvable_B.any() & ~all_full & ~all_end,
            cache,
        )

    state = _initial_state(options, nonempty_B, cache)
    finished = jax.lax.while_loop(lambda state: state.unfinished, extend, state).finished
    return (
        jnp.where(nonempty_B[:, None, None], finished.history_BNT[:, :, 1:], 0),
        jnp.where(nonempty_B[:, None], finished.lengths_BN, 0),
        jnp.where(nonempty_B[:, None], finished.scores_BN, 0),
    )


def _initial_state(options: DecodingOptions, nonempty_B: jax.Array, cache: Cache) -> _LoopState:
    """Every beam holds the start token. Only the first counts; otherwise all would generate the same."""
    shape, length = (nonempty_B.shape[0], options.num_beams), options.max_new_tokens
    history_BNT = jnp.zeros((*shape, length + 1), jnp.int32)
    missing_BN = jnp.full(shape, _MISSING, jnp.float32)
    return _LoopState(
        index=jnp.int32(0),
        history_BNT=history_BNT.at[:, :, 0].set(options.start_id),
        scores_BN=missing_BN.at[:, 0].set(0),
        ancestors_BNM=jnp.zeros((*shape, length), jnp.int32),
        finished=_Finished(history_BNT, jnp.zeros(shape, jnp.int32), missing_BN, jnp.zeros(shape, bool)),
        improvable_B=nonempty_B,
        unfinished=nonempty_B.any(),
        cache=cache,
    )


def _ancestor_mask(ancestors_BNM: jax.Array, index: jax.Array) -> jax.Array:
    """The slots of the shared cache that each beam sees, those of its ancestors: bool [B, N, P]."""
    batch, beams, length = ancestors_BNM.shape
    slot_BNMN = ancestors_BNM[..., None] == jnp.arange(beams)[None, None, None]
    written_M1 = (jnp.arange(length) <= index)[None, None, :, None]
    return (slot_BNMN & written_M1).reshape(batch, beams, length * beams)


def _candidates(options: DecodingOptions, logits_VBN: jax.Array, state: _LoopState) -> _Candidates:
    """The 2N best continuations of each prompt, found among the 2N best of each beam."""
    log_normalizer_BN = jax.nn.logsumexp(logits_VBN, axis=0)
    logits_VBN = process_logits(options, logits_VBN, log_normalizer_BN, state.history_BNT, state.index)
    count = 2 * options.num_beams
    count_per_beam = min(count, logits_VBN.shape[0])
    values_BNE, tokens_BNE = top_k(logits_VBN, count_per_beam)
    scores_BNE = values_BNE - log_normalizer_BN[..., None] + state.scores_BN[..., None]
    batch = scores_BNE.shape[0]
    scores_BC, indices_BC = jax.lax.top_k(scores_BNE.reshape(batch, -1), count)
    tokens_BC = jnp.take_along_axis(tokens_BNE.reshape(batch, -1), indices_BC, axis=1)
    parents_BC = indices_BC // count_per_beam
    history_BCT = jax.lax.dynamic_update_slice_in_dim(
        _take(state.history_BNT, parents_BC), tokens_BC[..., None], state.index + 1, axis=2
    )
    ends_BC = (tokens_BC == options.end_id) | (state.index + 1 >= options.max_new_tokens)
    return _Candidates(history_BCT, parents_BC, scores_BC, ends_BC)


def _update_finished(options: DecodingOptions, candidates: _Candidates, state: _LoopState) -> _Finished:
    """The N best of the finished outputs and of the candidates that end and are among the best N."""
    finished, beams, length = state.finished, options.num_beams, state.index + 1
    new_BC = candidates.ends_BC & (jnp.arange(candidates.ends_BC.shape[1]) < beams)[None]
    full_B1 = finished.exists_BN.all(axis=1, keepdims=True) & (options.early_stopping is True)
    scores_BC = candidates.scores_BC / length.astype(jnp.float32) ** options.length_penalty
    for excluded in (full_B1, ~state.improvable_B[:, None], ~new_BC):
        scores_BC = _rank_last(scores_BC, excluded)
    new = _Finished(
        candidates.history_BCT, jnp.broadcast_to(length, new_BC.shape).astype(jnp.int32), scores_BC, new_BC
    )
    merged = jax.tree.map(lambda old, new: jnp.concatenate([old, new], axis=1), finished, new)
    best_BN = jax.lax.top_k(merged.scores_BN, beams)[1]
    return jax.tree.map(lambda x: _take(x, best_BN), merged)


def _improvable(
    options: DecodingOptions, length: jax.Array, scores_BN: jax.Array, finished: _Finished
) -> jax.Array:
    """Whether each prompt's best beam may still beat its worst finished output, bool [B].

    The beam's score is divided by its length so far, which is a heuristic. With early_stopping="never" and a
    positive length_penalty it is divided by the maximum length, which makes the answer exact.
    """
    if options.early_stopping == "never" and options.length_penalty > 0:
        length = jnp.int32(options.max_new_tokens)
    best_B1 = scores_BN[:, :1] / length.astype(jnp.float32) ** options.length_penalty
    worst_B1 = finished.scores_BN.min(axis=1, keepdims=True)
    return (best_B1 > jnp.where(finished.exists_BN, worst_B1, _MISSING)).any(axis=1)


def _take(x_BNT: jax.Array, indices_BC: jax.Array) -> jax.Array:
    """The chosen beams or candidates of each prompt, [B, C, ...]."""
    indices = indices_BC.reshape(indices_BC.shape + (1,) * (x_BNT.ndim - 2))
    return jnp.take_along_axis(x_BNT, indices, axis=1)


def _rank_last(scores_BC: jax.Array, excluded_BC: jax.Array) -> jax.Array:
    """Scores that rank excluded candidates after all others, in their previous order."""
    return scores_BC + jnp.where(excluded_BC, _MISSING, 0.0)
