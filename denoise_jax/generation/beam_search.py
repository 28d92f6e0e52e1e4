"""Beam search as Hugging Face transformers 5 defines it.

Each step ranks the 2N likeliest continuations of a prompt's N beams. Those that end (by </s>, or by the
length) and are among the best N compete for the N finished places, by score over length to a power. The best
N of those that go on are the next beams. A prompt is done when no beam is likely to improve on the finished
ones: what `early_stopping` says.

Shape letters: B prompts, N beams, C candidates (2N), V padded vocabulary, M target positions, T places of a
history (M + 1, the first is the start token).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from denoise_jax.generation import decoding
from denoise_jax.generation.logits_processors import Search, constrain
from denoise_jax.generation.top_k import likeliest
from denoise_jax.model.transformer import EncoderDecoder

_NEVER = -1e9  # the score of what does not exist; the same number as Hugging Face's, since it can be returned


class _Finished(NamedTuple):
    """The best finished outputs so far, best first."""

    history_BNT: jax.Array
    lengths_BN: jax.Array
    scores_BN: jax.Array
    real_BN: jax.Array


class _Beams(NamedTuple):
    """The state of the loop. `ancestors_BNM` says in which beam's slot each token's key and value lie."""

    index: jax.Array
    history_BNT: jax.Array
    scores_BN: jax.Array
    ancestors_BNM: jax.Array
    finished: _Finished
    improvable_B: jax.Array
    going_on: jax.Array
    cache: decoding.Cache


class _Candidates(NamedTuple):
    """The likeliest continuations of a prompt, best first, and those which end here."""

    history_BCT: jax.Array
    parents_BC: jax.Array
    scores_BC: jax.Array
    ends_BC: jax.Array


def beam_search(
    model: EncoderDecoder, tokens_BS: jax.Array, options: Search
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """int32 tokens [B, N, M] without the start, padded with 0; int32 lengths and float32 scores [B, N].

    The score is the sum of log-probabilities over length ** length_penalty; forced tokens count 0. Outputs
    are best first. Prompts of padding only are done from the beginning.
    """
    batch, count, length = tokens_BS.shape[0], options.num_beams, options.max_new_tokens
    step, cache = decoding.start(model, tokens_BS, length, count, shared=True)
    real_B = (tokens_BS != 0).any(axis=1)

    def extend(beams: _Beams) -> _Beams:
        index = beams.index
        ancestors_BNM = jax.lax.dynamic_update_slice_in_dim(
            beams.ancestors_BNM,
            jnp.broadcast_to(jnp.arange(count)[None, :, None], (batch, count, 1)),
            index,
            axis=2,
        )
        tokens_BN = jax.lax.dynamic_index_in_dim(beams.history_BNT, index, axis=2, keepdims=False)
        logits_VBN, cache = step(tokens_BN, index, _past(ancestors_BNM, index), beams.cache)
        candidates = _continue(options, logits_VBN, beams)
        scores_BN, chosen_BN = jax.lax.top_k(_sink(candidates.scores_BC, candidates.ends_BC), count)
        finished = _finish(options, candidates, beams)
        improvable_B = beams.improvable_B & _improvable(options, index + 1, scores_BN, finished)
        all_finished = (finished.real_BN.all(axis=1) | ~real_B).all() & (options.early_stopping is True)
        all_end = (candidates.ends_BC.all(axis=1) | ~real_B).all()
        return _Beams(
            index + 1,
            _take(candidates.history_BCT, chosen_BN),
            scores_BN,
            _take(ancestors_BNM, _take(candidates.parents_BC, chosen_BN)),
            finished,
            improvable_B,
            improvable_B.any() & ~all_finished & ~all_end,
            cache,
        )

    beams = _start(options, real_B, cache)
    finished = jax.lax.while_loop(lambda beams: beams.going_on, extend, beams).finished
    return (
        jnp.where(real_B[:, None, None], finished.history_BNT[:, :, 1:], 0),
        jnp.where(real_B[:, None], finished.lengths_BN, 0),
        jnp.where(real_B[:, None], finished.scores_BN, 0),
    )


def _start(options: Search, real_B: jax.Array, cache: decoding.Cache) -> _Beams:
    """All beams stand at the start token; only the first counts, or all would write the same."""
    batch, count, length = real_B.shape[0], options.num_beams, options.max_new_tokens
    history_BNT = jnp.zeros((batch, count, length + 1), jnp.int32)
    none_BN = jnp.zeros((batch, count), jnp.int32)
    never_BN = jnp.full((batch, count), _NEVER, jnp.float32)
    return _Beams(
        jnp.int32(0),
        history_BNT.at[:, :, 0].set(options.start_id),
        never_BN.at[:, 0].set(0),
        jnp.zeros((batch, count, length), jnp.int32),
        _Finished(history_BNT, none_BN, never_BN, none_BN.astype(bool)),
        real_B,
        real_B.any(),
        cache,
    )


def _past(ancestors_BNM: jax.Array, index: jax.Array) -> jax.Array:
    """Which slots of the shared cache each beam sees, bool [B, N, M*N]: those of its ancestors."""
    batch, count, length = ancestors_BNM.shape
    own_BNMN = ancestors_BNM[..., None] == jnp.arange(count)[None, None, None]
    written_M1 = (jnp.arange(length) <= index)[None, None, :, None]
    return (own_BNMN & written_M1).reshape(batch, count, length * count)


def _continue(options: Search, logits_VBN: jax.Array, beams: _Beams) -> _Candidates:
    """The 2N best continuations of each prompt. Each beam's own 2N best are enough to find them."""
    total_BN = jax.nn.logsumexp(logits_VBN, axis=0)
    logits_VBN = constrain(options, logits_VBN, total_BN, beams.history_BNT, beams.index)
    wanted = 2 * options.num_beams
    each = min(wanted, logits_VBN.shape[0])
    values_BNC, tokens_BNC = likeliest(logits_VBN, each)
    scores_BNC = values_BNC - total_BN[..., None] + beams.scores_BN[..., None]
    batch = scores_BNC.shape[0]
    scores_BC, places_BC = jax.lax.top_k(scores_BNC.reshape(batch, -1), wanted)
    tokens_BC = jnp.take_along_axis(tokens_BNC.reshape(batch, -1), places_BC, axis=1)
    parents_BC = places_BC // each
    history_BCT = jax.lax.dynamic_update_slice_in_dim(
        _take(beams.history_BNT, parents_BC), tokens_BC[..., None], beams.index + 1, axis=2
    )
    ends_BC = (tokens_BC == options.end_id) | (beams.index + 1 >= options.max_new_tokens)
    return _Candidates(history_BCT, parents_BC, scores_BC, ends_BC)


def _finish(options: Search, candidates: _Candidates, beams: _Beams) -> _Finished:
    """The N best of the finished outputs and the candidates which end now and are among the best N."""
    finished, count, length = beams.finished, options.num_beams, beams.index + 1
    new_BC = candidates.ends_BC & (jnp.arange(candidates.ends_BC.shape[1]) < count)[None]
    full_B1 = finished.real_BN.all(axis=1, keepdims=True) & (options.early_stopping is True)
    scores_BC = candidates.scores_BC / length.astype(jnp.float32) ** options.length_penalty
    for excluded in (full_B1, ~beams.improvable_B[:, None], ~new_BC):
        scores_BC = _sink(scores_BC, excluded)
    new = _Finished(
        candidates.history_BCT, jnp.broadcast_to(length, new_BC.shape).astype(jnp.int32), scores_BC, new_BC
    )
    merged = jax.tree.map(lambda old, new: jnp.concatenate([old, new], axis=1), finished, new)
    best_BN = jax.lax.top_k(merged.scores_BN, count)[1]
    return jax.tree.map(lambda x: _take(x, best_BN), merged)


def _improvable(options: Search, length: jax.Array, scores_BN: jax.Array, finished: _Finished) -> jax.Array:
    """For each prompt whether its best beam may still beat its worst finished output, bool [B].

    With early_stopping="never" and a positive penalty the beam is credited with the longest output, which
    makes this certain; otherwise with its length so far, which is a guess.
    """
    if options.early_stopping == "never" and options.length_penalty > 0:
        length = jnp.int32(options.max_new_tokens)
    best_B1 = scores_BN[:, :1] / length.astype(jnp.float32) ** options.length_penalty
    worst_BN = jnp.where(finished.real_BN, finished.scores_BN.min(axis=1, keepdims=True), _NEVER)
    return (best_B1 > worst_BN).any(axis=1)


def _take(x_BNT: jax.Array, rows_BC: jax.Array) -> jax.Array:
    """The chosen rows of each prompt, [B, C, ...]."""
    rows = rows_BC.reshape(rows_BC.shape + (1,) * (x_BNT.ndim - 2))
    return jnp.take_along_axis(x_BNT, rows, axis=1)


def _sink(scores_BC: jax.Array, excluded_BC: jax.Array) -> jax.Array:
    """Scores by which what is excluded comes last, though still in order."""
    return scores_BC + jnp.where(excluded_BC, _NEVER, 0.0)
