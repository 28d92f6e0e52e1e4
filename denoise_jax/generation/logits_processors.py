"""Logits processors: no repeated n-grams, minimum length, forced first and last tokens.

The same as Hugging Face's, applied in the same order. `history_BNT` holds each row's tokens so far, beginning
with the start token; the next token goes to history index `index + 1`.

Shape letters: V padded vocabulary, B prompts, N rows of a prompt, T history indices (max_new_tokens + 1),
W n-gram positions.
"""

import jax
import jax.numpy as jnp

from denoise_jax.generation.decoding import DecodingOptions


def process_logits(
    options: DecodingOptions,
    logits_VBN: jax.Array,
    log_normalizer_BN: jax.Array,
    history_BNT: jax.Array,
    index: jax.Array,
) -> jax.Array:
    """Sets the logits of tokens that must not be generated at position `index` to -inf.

    A forced token gets a log-probability of 0: its logit becomes `log_normalizer_BN`, the logsumexp of the
    logits.
    """
    tokens_V11 = jnp.arange(logits_VBN.shape[0])[:, None, None]

    def force(logits_VBN, token, condition):
        forced_VBN = jnp.where(tokens_V11 == token, log_normalizer_BN[None], -jnp.inf)
        return jnp.where(condition, forced_VBN, logits_VBN)

    if options.no_repeat_ngram_size:
        logits_VBN = _ban_repeated_ngrams(options.no_repeat_ngram_size, logits_VBN, history_BNT, index)
    if options.min_new_tokens:
        too_early = (tokens_V11 == options.end_id) & (index < options.min_new_tokens)
        logits_VBN = jnp.where(too_early, -jnp.inf, logits_VBN)
    if options.forced_bos_id is not None:
        logits_VBN = force(logits_VBN, options.forced_bos_id, index == 0)
    if options.forced_eos_id is not None:
        logits_VBN = force(logits_VBN, options.forced_eos_id, index == options.max_new_tokens - 1)
    return logits_VBN


def _ban_repeated_ngrams(
    size: int, logits_VBN: jax.Array, history_BNT: jax.Array, index: jax.Array
) -> jax.Array:
    """-inf for each token that would complete an n-gram of this size that the row already contains."""
    batch, rows, length = history_BNT.shape
    if length < size:
        return logits_VBN
    ngrams = length - size + 1
    last_W = jnp.arange(ngrams) + size - 1  # index of the last token of each n-gram
    matches_BNW = jnp.broadcast_to(last_W <= index, (batch, rows, ngrams))
    for offset in range(size - 1):
        recent_BN1 = jax.lax.dynamic_slice_in_dim(history_BNT, index + 2 - size + offset, 1, axis=2)
        matches_BNW &= history_BNT[:, :, offset : offset + ngrams] == recent_BN1
    banned_BNW = jnp.where(matches_BNW, history_BNT[:, :, size - 1 :], logits_VBN.shape[0])
    prompt_B11, row_1N1 = jnp.arange(batch)[:, None, None], jnp.arange(rows)[None, :, None]
    return logits_VBN.at[banned_BNW, prompt_B11, row_1N1].set(-jnp.inf, mode="drop")
