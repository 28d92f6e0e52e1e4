"""What a search may write: no repeated n-grams, a least length, tokens forced at the ends.

The same as Hugging Face's logits processors, in their order. `history_BNT` holds what the rows have written,
with the token that started them at place 0; the token at hand goes to place index + 1.

Shape letters: V padded vocabulary, B prompts, N rows of a prompt, T places of the history (M + 1).
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp


class Search(NamedTuple):
    """How to decode: `GenerationConfig` with its tokens resolved to ids; hashable, static under jit."""

    max_new_tokens: int
    start_id: int
    end_id: int
    min_new_tokens: int = 0
    num_beams: int = 1
    num_return_sequences: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    no_repeat_ngram_size: int = 0
    forced_bos_id: int | None = None
    forced_eos_id: int | None = None
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


def constrain(
    options: Search, logits_VBN: jax.Array, total_BN: jax.Array, history_BNT: jax.Array, index: jax.Array
) -> jax.Array:
    """Logits with -inf for tokens that may not be written at position `index`.

    `total_BN` is the log of the sum of the exponentials of the logits. A forced token's logit becomes that,
    so that its log-probability is 0.
    """
    tokens_V11 = jnp.arange(logits_VBN.shape[0])[:, None, None]

    def force(logits_VBN, token, now):
        forced_VBN = jnp.where(tokens_V11 == token, total_BN[None], -jnp.inf)
        return jnp.where(now, forced_VBN, logits_VBN)

    if options.no_repeat_ngram_size:
        logits_VBN = _without_repetition(options.no_repeat_ngram_size, logits_VBN, history_BNT, index)
    if options.min_new_tokens:
        too_early = (tokens_V11 == options.end_id) & (index < options.min_new_tokens)
        logits_VBN = jnp.where(too_early, -jnp.inf, logits_VBN)
    if options.forced_bos_id is not None:
        logits_VBN = force(logits_VBN, options.forced_bos_id, index == 0)
    if options.forced_eos_id is not None:
        logits_VBN = force(logits_VBN, options.forced_eos_id, index == options.max_new_tokens - 1)
    return logits_VBN


def _without_repetition(
    size: int, logits_VBN: jax.Array, history_BNT: jax.Array, index: jax.Array
) -> jax.Array:
    """-inf for each token that would complete an n-gram of this size which the row holds already."""
    batch, rows, places = history_BNT.shape
    if places < size:
        return logits_VBN
    windows = places - size + 1
    last_W = jnp.arange(windows) + size - 1
    found_BNW = jnp.broadcast_to(last_W <= index, (batch, rows, windows))
    for place in range(size - 1):
        recent_BN1 = jax.lax.dynamic_slice_in_dim(history_BNT, index + 2 - size + place, 1, axis=2)
        found_BNW &= history_BNT[:, :, place : place + windows] == recent_BN1
    banned_BNW = jnp.where(found_BNW, history_BNT[:, :, size - 1 :], logits_VBN.shape[0])
    at_B11, at_1N1 = jnp.arange(batch)[:, None, None], jnp.arange(rows)[None, :, None]
    return logits_VBN.at[banned_BNW, at_B11, at_1N1].set(-jnp.inf, mode="drop")
