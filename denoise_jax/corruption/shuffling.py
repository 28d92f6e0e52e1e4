"""Token shuffling: tokens change places, within a distance or anywhere (Lample et al. 2018, section 3.1.2).

Local shuffling sorts the units by i + U(0, k + 1), where i is a unit's index, so that no unit moves by more
than k. XLM's released code sorts by i + U(0, k), where no unit moves by more than k - 1. Sort keys are
fixed-point integers with 24 fractional bits, since floating point would lose the order at large indices.

Shapes: E examples, C movable tokens, U units (tokens or words).
"""

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import check_number
from denoise_jax.corruption.rates import Rate, Schedule
from denoise_jax.corruption.record import Corruption, Noised, rearrange
from denoise_jax.corruption.row_partition import RowPartition, argsort, put, take
from denoise_jax.corruption.symbols import Symbols
from denoise_jax.corruption.units import check_unit, units

MAX_DISTANCE = 10**6  # sort keys fit into 63 bits for batches of half a million examples
_FRACTIONAL_BITS = 24


def token_shuffling(
    symbols: Symbols,
    *,
    shuffle_distance: int | None = 3,
    shuffle_prob: float | Schedule = 1.0,
    unit: str = "token",
) -> Corruption:
    """Shuffles units, each by at most `shuffle_distance` places, or anywhere.

    Args:
      shuffle_distance: largest number of places by which a unit may move; None for a uniformly random order.
      shuffle_prob: share of the units that take part: exactly ceil(shuffle_prob x units), a uniformly random
        subset. They exchange places among themselves, and `shuffle_distance` counts these places only.
      unit: "token" or "word"; the tokens of a word stay together and in order.

    `Symbols.movable` says what moves; all other tokens keep their positions.

    Raises CorruptionError for an option out of bounds.
    """
    rate = Rate(shuffle_prob, "shuffle_prob")
    distance = shuffle_distance
    if distance is not None:
        must = f"be a whole number of places, 1 to {MAX_DISTANCE}, or None for no limit"
        distance = check_number("shuffle_distance", distance, 1, MAX_DISTANCE, must=must, whole=True)
    check_unit(symbols, unit)

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        movable = symbols.movable(noised)
        u = units(symbols, noised, unit, movable)
        order = _order(u.partition, distance, rate, noised.steps, key)  # [U]
        if unit == "word":
            order = u.reordered(order)  # [C]
        positions, _ = noised.partition.where(movable)
        return rearrange(noised, positions, take(positions, order))

    return corrupt


def _order(u: RowPartition, distance: int | None, rate: Rate, steps: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """The new order of the units, which `u` divides into examples: [U]."""
    if rate.share == 1:
        return _shuffled(u, distance, key)
    chosen, partition = u.where(u.choose(rate.counts(u.row_lengths, steps), draw(key, "shuffling.choice", u)))
    return put(take(chosen, _shuffled(partition, distance, key)), chosen, tf.range(u.nvals))


def _shuffled(partition: RowPartition, distance: int | None, key: tf.Tensor) -> tf.Tensor:
    """A random order of the values of `partition` within each row; indices of its values."""
    draws = draw(key, "shuffling.order", partition)
    if distance is None:
        return partition.argsort(draws)
    reach = distance + 1
    jitter = (tf.cast(draws, tf.int64) + 2**31) * reach // 2 ** (32 - _FRACTIONAL_BITS)  # in [0, reach)
    # Rows are spaced further apart than any jitter reaches, so one sort serves all of them.
    index = tf.cast(tf.range(partition.nvals), tf.int64)
    spaced = index + tf.cast(partition.value_rowids, tf.int64) * reach
    return argsort(spaced * 2**_FRACTIONAL_BITS + jitter)
