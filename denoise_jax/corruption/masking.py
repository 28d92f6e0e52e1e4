"""Token masking and token replacement: each chosen token is replaced by one token, so lengths do not change.

Masking is BERT's (Devlin et al. 2019, section 3.1); with random_prob and keep_prob 0 it is BART's token
masking (Lewis et al. 2019, section 2.2). Unlike in released code, the share is exact unless
selection="bernoulli", and random tokens are tokens of text, never padding, </s> or the mask as in fairseq.

Shapes: N corrupted tokens.
"""

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.rates import Rate, Schedule
from denoise_jax.corruption.record import Corruption, Noised, Op, write
from denoise_jax.corruption.row_partition import take
from denoise_jax.corruption.symbols import Symbols
from denoise_jax.corruption.units import Selection, check_unit, units

SOURCES = ("vocabulary", "text")


def token_masking(
    symbols: Symbols,
    *,
    mask_prob: float | Schedule = 0.15,
    random_prob: float | Schedule = 0.1,
    keep_prob: float | Schedule = 0.1,
    selection: str = "exact",
    rounding: str = "ceil",
    whole_word: bool = False,
) -> Corruption:
    """Replaces each chosen token by the mask or a random token, or keeps it.

    Args:
      mask_prob: share of the units to choose.
      random_prob: probability that a chosen token becomes a random token of text, drawn uniformly, possibly
        the token itself.
      keep_prob: probability that a chosen token is kept. The record shows it as visible, like a token that
        was not chosen, so that on average mask_prob x (1 - keep_prob) of the tokens are hidden.
      selection: "exact" chooses exactly `rounding`(mask_prob x units) units, a uniformly random subset;
        "bernoulli" chooses each unit independently.
      rounding: "ceil", "floor", "round" (half up) or "stochastic" (exact in the mean); for "exact" only.
      whole_word: units are words instead of tokens.

    Random tokens and kept tokens are drawn per token, also within a word. Where schedules make random_prob
    and keep_prob add up to more than 1, keep_prob is reduced.

    Raises CorruptionError for an option out of bounds, or if random_prob + keep_prob is above 1.
    """
    rate = Rate(mask_prob, "mask_prob")
    random_rate, keep_rate = Rate(random_prob, "random_prob"), Rate(keep_prob, "keep_prob")
    shares = (random_rate.share, keep_rate.share)
    if None not in shares and sum(shares) > 1:
        raise CorruptionError(
            f"random_prob={random_prob} and keep_prob={keep_prob} are shares of the same tokens: "
            "their sum must not exceed 1"
        )
    chooser = Selection(rate, selection, rounding)
    unit = check_unit(symbols, "word" if whole_word else "token")

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        u = units(symbols, noised, unit)
        chosen = u.broadcast(chooser.choose(u, noised.steps, key, "masking.choice"))
        # Small draws make a token random and large ones keep it, so one draw cannot do both.
        fate = draw(key, "masking.fate", noised.partition)
        random = random_rate.hits(fate, noised.partition, noised.steps)
        kept = keep_rate.hits(tf.bitwise.invert(fate), noised.partition, noised.steps) & ~random
        ids = symbols.random_ids(draw(key, "masking.random_ids", noised.partition))
        return write(
            noised,
            chosen & ~kept,
            tf.where(random, ids, symbols.mask_token),
            tf.where(random, int(Op.RANDOM), int(Op.MASK)),
        )

    return corrupt


def token_replacement(
    symbols: Symbols,
    *,
    replace_prob: float | Schedule = 0.15,
    source: str = "vocabulary",
    selection: str = "exact",
    rounding: str = "ceil",
    whole_word: bool = False,
) -> Corruption:
    """Replaces each chosen token by a random token, possibly the token itself.

    Args:
      replace_prob: share of the units to choose.
      source: "vocabulary" draws uniformly from all ids of text; "text" draws uniformly from the positions of
        the same example that this noise may change, so that frequent tokens are drawn more often.
      selection, rounding, whole_word: as for `token_masking`.

    Raises CorruptionError for an option out of bounds.
    """
    if source not in SOURCES:
        raise CorruptionError(
            f"source={source!r} of random tokens is unknown; choose one of {', '.join(SOURCES)}"
        )
    chooser = Selection(Rate(replace_prob, "replace_prob"), selection, rounding)
    unit = check_unit(symbols, "word" if whole_word else "token")

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        u = units(symbols, noised, unit)
        chosen = u.broadcast(chooser.choose(u, noised.steps, key, "replacement.choice"))
        draws = draw(key, "replacement.random_ids", noised.partition)
        ids = symbols.random_ids(draws) if source == "vocabulary" else _ids_of_text(noised, u.eligible, draws)
        return write(noised, chosen, ids, Op.RANDOM)

    return corrupt


def _ids_of_text(noised: Noised, eligible: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """For each token the id of a random eligible token of its example, or 0 if there is none: [N]."""
    index, own = noised.partition.where(eligible)
    offset = draws % noised.partition.broadcast(tf.maximum(own.row_lengths, 1))
    ids = tf.concat([take(noised.ids, index), [0]], 0)
    return take(ids, noised.partition.broadcast(own.row_starts) + offset)
