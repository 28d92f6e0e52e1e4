"""What noise counts and chooses: tokens, or whole words."""

from typing import NamedTuple

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.rates import Rate, check_rounding
from denoise_jax.corruption.record import Noised
from denoise_jax.corruption.row_partition import RowPartition, bincount, block_permutation, put, take
from denoise_jax.corruption.symbols import Symbols

UNITS = ("token", "word")
SELECTIONS = ("exact", "bernoulli")


class Units(NamedTuple):
    """The units of the columns that noise may touch; n columns, u units in the whole window."""

    eligible: tf.Tensor  # [n] bool: columns that belong to a unit
    unit_ids: tf.Tensor  # [n] unit of each eligible column, ascending from 0; others have u
    partition: RowPartition  # of the u units
    single: bool  # whether each unit is one column

    def broadcast(self, values: tf.Tensor) -> tf.Tensor:
        """Each column's own of the units' flags or int32 values [u]: [n]; False or 0 outside all units."""
        if not self.single:
            return take(tf.concat([values, tf.zeros([1], values.dtype)], 0), self.unit_ids)
        columns = tf.cast(tf.where(self.eligible)[:, 0], tf.int32)
        nothing = tf.zeros(tf.shape(self.eligible), values.dtype)
        return put(values, columns, nothing)

    def reordered(self, order: tf.Tensor) -> tf.Tensor:
        """Index into the eligible columns [c] that puts whole units into the order [u]: [c]."""
        return block_permutation(order, bincount(self.unit_ids, self.partition.nvals))


def units(symbols: Symbols, noised: Noised, unit: str, eligible: tf.Tensor | None = None) -> Units:
    """Units of the columns where `eligible` (bool [n]; default: text that no noise has written) is set.

    A word is a piece that begins one and the eligible pieces behind it. A piece whose left neighbour is not
    eligible, or in another example, begins a word too: so the first word of a text can be hidden as well,
    which BART's released code never does for a text without a leading space. What noise wrote in the place
    of text begins a word where that text did; what it inserted always does.
    """
    eligible = symbols.eligible(noised) if eligible is None else eligible
    begins = eligible
    if unit == "word":
        before = tf.concat([[False], eligible[:-1]], 0)
        first = noised.partition.offsets == 0
        last = tf.maximum(noised.target_partition.nvals, 1)  # an insertion's source may be past it
        told = take(tf.concat([noised.targets, [0]], 0), tf.minimum(noised.source, last) - 1)
        begins_word = symbols.begins_word(told, "unit='word'") | (noised.span == 1)
        begins = eligible & (begins_word | ~before | first)
    begins = tf.cast(begins, tf.int32)
    partition = RowPartition.from_row_lengths(noised.partition.sum(begins))
    unit_ids = tf.where(eligible, tf.cumsum(begins) - 1, partition.nvals)
    return Units(eligible, unit_ids, partition, unit == "token")


def check_unit(symbols: Symbols, unit: str, allowed: tuple[str, ...] = UNITS) -> str:
    """`unit`, checked when a corruption is built: CorruptionError if unknown, or words that none can tell."""
    if unit not in allowed:
        raise CorruptionError(f"unit={unit!r} is no unit of text; choose one of {', '.join(allowed)}")
    if unit == "word":
        symbols.begins_word(tf.constant([0]), "unit='word'")
    return unit


class Selection:
    """A checked way to choose units.

    "exact" takes `rounding`(rate x units) of each example, every subset alike; "bernoulli" takes each unit by
    itself with probability `rate`, and `rounding` says nothing.

    Raises CorruptionError for a selection or a budget that is unknown.
    """

    def __init__(self, rate: Rate, selection: str, rounding: str):
        if selection not in SELECTIONS:
            raise CorruptionError(
                f"selection={selection!r} is no way to choose; choose one of {', '.join(SELECTIONS)}"
            )
        self.rate, self.exact, self.rounding = rate, selection == "exact", check_rounding(rounding)

    def choose(self, u: Units, steps: tf.Tensor, key: tf.Tensor, name: str) -> tf.Tensor:
        """The chosen units, bool [u], at training steps [e], by the stream `name` of keys [e]."""
        draws = draw(key, name, u.partition)
        if not self.exact:
            return self.rate.hits(draws, u.partition, steps)
        return u.partition.choose(self.rate.counts(u.partition.row_lengths, steps, self.rounding, key), draws)
