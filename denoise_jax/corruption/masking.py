"""Token masking and token replacement: one symbol in the place of each chosen token, no length changed.

Masking is BERT's (Devlin et al. 2019, section 3.1); with random_prob and keep_prob 0 it is BART's token
masking (Lewis et al. 2019, section 2.2). Where we differ from released code, on purpose: the share is exact
unless selection="bernoulli" asks otherwise, and random tokens are tokens of text alone, where fairseq's may
be padding, an end of text or the mask.
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
    """Put the mask, or now and then a random token or the token itself, in the place of each chosen token.

    Args:
      mask_prob: share of the units that are chosen.
      random_prob: share of the chosen tokens that become a random token of text: all ids alike, so by
        chance the token itself.
      keep_prob: share of the chosen tokens that stay as they are. The record shows them as visible, like
        any token that was not chosen; so in the mean mask_prob x (1 - keep_prob) of the tokens are hidden.
      selection: "exact" chooses `rounding`(mask_prob x units) units, every subset alike; "bernoulli" each
        unit by itself.
      rounding: "ceil", "floor", "round" (halves up), or "stochastic" (exact in the mean); for "exact" only.
      whole_word: units are words instead of tokens.

    What becomes of a chosen token is drawn for each token independently, also inside a word. Where
    schedules make random_prob and keep_prob more than 1 together, keep_prob gives way.
    Raises CorruptionError for an option outside its bounds, or random_prob + keep_prob above 1.
    """
    rate = Rate(mask_prob, "mask_prob")
    random_rate, keep_rate = Rate(random_prob, "random_prob"), Rate(keep_prob, "keep_prob")
    shares = (random_rate.share, keep_rate.share)
    if None not in shares and sum(shares) > 1:
        raise CorruptionError(
            f"random_prob={random_prob} and keep_prob={keep_prob} are shares of the same tokens: "
            "together they must not exceed 1"
        )
    chooser = Selection(rate, selection, rounding)
    unit = check_unit(symbols, "word" if whole_word else "token")

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        u = units(symbols, noised, unit)
        chosen = u.broadcast(chooser.choose(u, noised.steps, key, "masking.choice"))
        # One draw decides: its low end means random, its high end keep, so that no token is both.
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
    """Put a random token in the place of each chosen token.

    Args:
      replace_prob: share of the units that are chosen.
      source: "vocabulary" draws from all ids of text, all alike; "text" from the tokens that this noise may
        touch in the same example, all places alike, so that frequent tokens come often. Either may draw the
        token itself.
      selection, rounding, whole_word: as for `token_masking`.

    Raises CorruptionError for an option outside its bounds.
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
    """For each column an id from an eligible column of its example, all alike; 0 where there is none: [n]."""
    index, own = noised.partition.where(eligible)
    place = draws % noised.partition.broadcast(tf.maximum(own.row_lengths, 1))
    ids = tf.concat([take(noised.ids, index), [0]], 0)
    return take(ids, noised.partition.broadcast(own.row_starts) + place)
