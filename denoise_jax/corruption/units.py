"""The units that noise counts and chooses: tokens or whole words.

Shapes: E examples, N corrupted tokens, C of which are eligible, U units of the whole batch.
"""

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
    """The eligible tokens of a batch, grouped into units."""

    eligible: tf.Tensor  # [N] bool: whether the token belongs to a unit
    unit_ids: tf.Tensor  # [N] unit of each eligible token, ascending from 0; U for all others
    partition: RowPartition  # of the U units
    single: bool  # whether every unit is one token

    def broadcast(self, values: tf.Tensor) -> tf.Tensor:
        """Repeats each unit's entry of `values` [U], bool or int32, for its tokens: [N]; elsewhere 0."""
        if not self.single:
            return take(tf.concat([values, tf.zeros([1], values.dtype)], 0), self.unit_ids)
        positions = tf.cast(tf.where(self.eligible)[:, 0], tf.int32)
        return put(values, positions, tf.zeros(tf.shape(self.eligible), values.dtype))

    def reordered(self, order: tf.Tensor) -> tf.Tensor:
        """Indices [C] into the eligible tokens that put the units into the given order [U]."""
        return block_permutation(order, bincount(self.unit_ids, self.partition.nvals))


def units(symbols: Symbols, noised: Noised, unit: str, eligible: tf.Tensor | None = None) -> Units:
    """Groups the tokens where `eligible` (bool [N]) is set, by default `symbols.eligible`, into units.

    A word is a token that begins a word and the eligible tokens that follow it. A token also begins a word if
    its left neighbour is not eligible or belongs to another example; so the first word of a text can be
    hidden too, which BART's released code never does in a text without a leading space. A token written by
    noise in place of text begins a word if that text did; an insertion always does.
    """
    eligible = symbols.eligible(noised) if eligible is None else eligible
    begins = eligible
    if unit == "word":
        previous_eligible = tf.concat([[False], eligible[:-1]], 0)
        first = noised.partition.offsets == 0
        last = tf.maximum(noised.target_partition.nvals, 1)  # the source of an insertion may be past it
        targets = take(tf.concat([noised.targets, [0]], 0), tf.minimum(noised.source, last) - 1)
        begins_word = symbols.begins_word(targets, "unit='word'") | (noised.span == 1)
        begins = eligible & (begins_word | ~previous_eligible | first)
    begins = tf.cast(begins, tf.int32)
    partition = RowPartition.from_row_lengths(noised.partition.sum(begins))
    unit_ids = tf.where(eligible, tf.cumsum(begins) - 1, partition.nvals)
    return Units(eligible, unit_ids, partition, unit == "token")


def check_unit(symbols: Symbols, unit: str, allowed: tuple[str, ...] = UNITS) -> str:
    """Returns `unit`; raises CorruptionError if it is unknown, or "word" without known word starts."""
    if unit not in allowed:
        raise CorruptionError(f"unit={unit!r} is unknown; choose one of {', '.join(allowed)}")
    if unit == "word":
        symbols.begins_word(tf.constant([0]), "unit='word'")
    return unit


class Selection:
    """How units are chosen.

    "exact" chooses exactly `rounding`(rate x units) of each example, a uniformly random subset; "bernoulli"
    chooses each unit independently with probability `rate`, and ignores `rounding`.

    Raises CorruptionError for an unknown selection or rounding.
    """

    def __init__(self, rate: Rate, selection: str, rounding: str):
        if selection not in SELECTIONS:
            raise CorruptionError(
                f"selection={selection!r} is unknown; choose one of {', '.join(SELECTIONS)}"
            )
        self.rate, self.exact, self.rounding = rate, selection == "exact", check_rounding(rounding)

    def choose(self, u: Units, steps: tf.Tensor, key: tf.Tensor, name: str) -> tf.Tensor:
        """Chooses units at training steps [E], drawn from the stream `name` of keys [E]: bool [U]."""
        draws = draw(key, name, u.partition)
        if not self.exact:
            return self.rate.hits(draws, u.partition, steps)
        return u.partition.choose(self.rate.counts(u.partition.row_lengths, steps, self.rounding, key), draws)
