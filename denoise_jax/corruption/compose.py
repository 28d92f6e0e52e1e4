"""Composition: corruptions one after the other, or one of several for each example."""

import math
from collections.abc import Sequence

import tensorflow as tf

from denoise_jax.corruption.keys import draw, stream
from denoise_jax.corruption.record import Corruption, Noised, Op, insert, join, select
from denoise_jax.corruption.rows import rows_of_sizes
from denoise_jax.corruption.spans import look_up
from denoise_jax.corruption.symbols import CorruptionError


def chain(members: Sequence[Corruption]) -> Corruption:
    """The members applied in order; the empty chain changes nothing.

    Member k draws from the stream "member k", so neither its options nor its neighbours' touch another's
    draws, and the same corruption may stand in a chain twice. Provenance composes, since every member
    rearranges all columns of the record together.
    """
    members = tuple(members)

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        for position, member in enumerate(members):
            noised = member(noised, stream(key, f"member {position}"))
        return noised

    return corrupt


def mixture(members: Sequence[tuple[Corruption, float, int | None]]) -> Corruption:
    """One of the members for each example, at random in proportion to their weights.

    Args:
      members: (corruption, weight, mode token); the mode token is the id of a symbol that is put before the
        corrupted text to tell the model which noise it faces (UL2, Tay et al. 2022), or None.

    Raises CorruptionError for no members, or a weight that is negative, infinite, or 0 for all of them.
    """
    members = tuple(members)
    weights = tuple(float(weight) for _, weight, _ in members)
    if not members:
        raise CorruptionError("members=[] of a mixture: give at least one")
    if not all(0 <= weight < math.inf for weight in weights) or not sum(weights) > 0:
        raise CorruptionError(f"weights={weights} of a mixture must be finite, not negative, and not all 0")

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        member_of_example = look_up(weights, draw(key, "mixture.member"))
        parts, examples = [], []
        for position, (member, _, mode_token) in enumerate(members):
            own = tf.cast(tf.where(member_of_example == position)[:, 0], tf.int32)
            part = member(select(noised, own), stream(tf.gather(key, own), f"member {position}"))
            parts.append(part if mode_token is None else _announce(part, mode_token))
            examples.append(own)
        return join(parts, examples)

    return corrupt


def _announce(noised: Noised, mode_token: int) -> Noised:
    """The record with the mode token before each text."""
    ones = tf.ones_like(noised.rows.sizes)
    return insert(noised, noised.rows.starts, rows_of_sizes(ones), ones * mode_token, Op.SENTINEL)
