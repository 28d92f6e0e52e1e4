"""Token deletion: tokens are removed, and the model must find out where (Lewis et al. 2019, section 2.2).

Unlike in the released code of T5 and XLM, the share is exact unless selection="bernoulli", and no text is
left empty.

Shapes: E examples, U units (tokens or words).
"""

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.rates import Rate, Schedule
from denoise_jax.corruption.record import Corruption, Noised, delete
from denoise_jax.corruption.symbols import Symbols
from denoise_jax.corruption.units import Selection, Units, check_unit, units


def token_deletion(
    symbols: Symbols,
    *,
    deletion_prob: float | Schedule = 0.15,
    selection: str = "exact",
    rounding: str = "ceil",
    whole_word: bool = False,
) -> Corruption:
    """Deletes a share of the units; if all would be deleted, one, chosen at random, is kept.

    Args:
      deletion_prob: share of the units to delete.
      selection: "exact" deletes exactly `rounding`(deletion_prob x units) units, a uniformly random subset;
        "bernoulli" deletes each unit independently.
      rounding: "ceil", "floor", "round" (half up) or "stochastic" (exact in the mean); for "exact" only.
      whole_word: units are words instead of tokens.

    Tokens written by earlier noise are left alone.

    Raises CorruptionError for an option out of bounds.
    """
    chooser = Selection(Rate(deletion_prob, "deletion_prob"), selection, rounding)
    unit = check_unit(symbols, "word" if whole_word else "token")

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        u = units(symbols, noised, unit)
        chosen = chooser.choose(u, noised.steps, key, "deletion.choice")
        return delete(noised, u.broadcast(chosen & ~_spared(u, chosen, key)))

    return corrupt


def _spared(u: Units, chosen: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Flags one random unit of each example in which all are chosen (bool [U]): bool [U]."""
    all_chosen = u.partition.sum(chosen) == u.partition.row_lengths
    offset = draw(key, "deletion.spared") % tf.maximum(u.partition.row_lengths, 1)
    return u.partition.broadcast(all_chosen) & (u.partition.offsets == u.partition.broadcast(offset))
