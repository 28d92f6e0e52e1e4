"""Token shuffling: tokens change places, near by or anywhere (Lample et al. 2018, section 3.1.2).

Local shuffling sorts each unit's place i by i + U(0, k + 1). So no unit moves more than k places, and k is
reached; the released code of XLM sorts by i + U(0, k) and never gets further than k - 1. Keys are whole
numbers of 24 fractional bits: floating point loses the order of far places.

Legend of shapes: n columns, c of which move; u units, k of which take part.
"""

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import check_number
from denoise_jax.corruption.rates import Rate, Schedule
from denoise_jax.corruption.record import Corruption, Noised, rearrange
from denoise_jax.corruption.row_partition import RowPartition, argsort, put, take
from denoise_jax.corruption.symbols import Symbols
from denoise_jax.corruption.units import check_unit, units

MAX_DISTANCE = 10**6  # keys stay within 63 bits for windows of half a million examples
_BITS = 24  # of a key behind the point


def token_shuffling(
    symbols: Symbols,
    *,
    shuffle_distance: int | None = 3,
    shuffle_prob: float | Schedule = 1.0,
    unit: str = "token",
) -> Corruption:
    """Shuffle units, each at most `shuffle_distance` places away, or anywhere.

    Args:
      shuffle_distance: the greatest number of places that a unit may move; None: all orders are alike.
      shuffle_prob: share of the units that take part: exactly ceil(shuffle_prob x units), every subset
        alike. They change places among themselves only, and the distance counts those places; the others
        stay.
      unit: "token" or "word"; the pieces of a word stay together, in their order.

    What moves is told by `Symbols.movable`; it moves among its own columns, and all else stays. Raises
    CorruptionError for an option outside its bounds.
    """
    rate = Rate(shuffle_prob, "shuffle_prob")
    must = f"be a whole number of places, 1 to {MAX_DISTANCE}, or None for any"
    distance = shuffle_distance
    if distance is not None:
        distance = check_number("shuffle_distance", distance, 1, MAX_DISTANCE, must=must, whole=True)
    check_unit(symbols, unit)

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        movable = symbols.movable(noised)
        u = units(symbols, noised, unit, movable)
        order = _order(u.partition, distance, rate, noised.steps, key)
        columns, _ = noised.partition.where(movable)
        if unit == "word":
            order = u.reordered(order)
        return rearrange(noised, columns, take(columns, order))

    return corrupt


def _order(u: RowPartition, distance: int | None, rate: Rate, steps: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """The units in their new order: [u]."""
    if rate.share == 1:
        return _shuffled(u, distance, key)
    chosen, partition = u.where(u.choose(rate.counts(u.row_lengths, steps), draw(key, "shuffling.choice", u)))
    return put(take(chosen, _shuffled(partition, distance, key)), chosen, tf.range(u.nvals))


def _shuffled(partition: RowPartition, distance: int | None, key: tf.Tensor) -> tf.Tensor:
    """A random order of the columns of each row: [k]."""
    draws = draw(key, "shuffling.order", partition)
    if distance is None:
        return partition.argsort(draws)
    spread = distance + 1
    jitter = (tf.cast(draws, tf.int64) + 2**31) * spread // 2 ** (32 - _BITS)  # 0 <= jitter < spread
    # Rows lie further apart than any jitter reaches, so that one sort serves them all.
    place = tf.cast(tf.range(partition.nvals), tf.int64)
    return argsort((place + tf.cast(partition.value_rowids, tf.int64) * spread) * 2**_BITS + jitter)
