"""Token deletion: tokens vanish, and the model must find where (Lewis et al. 2019, section 2.2).

Where we differ from T5's and XLM's released code: the share is exact unless selection="bernoulli" asks
otherwise, and no text is ever left empty.
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
    """Delete a share of the units, never all of them: one, chosen at random, stays where all would go.

    Args:
      deletion_prob: share of the units that vanish.
      selection: "exact" deletes `rounding`(deletion_prob x units) units, every subset alike; "bernoulli"
        each unit by itself.
      rounding: "ceil", "floor", "round" (halves up), or "stochastic" (exact in the mean); for "exact" only.
      whole_word: units are words instead of tokens.

    What earlier noise wrote is left alone. Raises CorruptionError for an option outside its bounds.
    """
    chooser = Selection(Rate(deletion_prob, "deletion_prob"), selection, rounding)
    unit = check_unit(symbols, "word" if whole_word else "token")

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        u = units(symbols, noised, unit)
        chosen = chooser.choose(u, noised.steps, key, "deletion.choice")
        return delete(noised, u.broadcast(chosen & ~_spared(u, chosen, key)))

    return corrupt


def _spared(u: Units, chosen: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """One unit of each example in which all are chosen (bool [u]): bool [u]."""
    all_chosen = u.partition.sum(chosen) == u.partition.row_lengths
    one = draw(key, "deletion.spared") % tf.maximum(u.partition.row_lengths, 1)
    return u.partition.broadcast(all_chosen) & (u.partition.offsets == u.partition.broadcast(one))
