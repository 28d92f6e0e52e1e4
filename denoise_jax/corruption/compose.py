"""Composition: corruptions one after the other, or one of several for each example."""

from collections.abc import Sequence

import tensorflow as tf

from denoise_jax.corruption.keys import draw, stream
from denoise_jax.corruption.options import CorruptionError, check_number, check_weights
from denoise_jax.corruption.record import Corruption, Noised, Op, insert, join, select
from denoise_jax.corruption.rows import rows_of_sizes
from denoise_jax.corruption.spans import look_up


def chain(members: Sequence[Corruption]) -> Corruption:
    """The members applied in order; the empty chain changes nothing.

    Member k draws from the stream "member k", so neither its options nor its neighbours' touch another's
    draws, and the same corruption may stand in a chain twice. Provenance composes, since every member
    rearranges all columns of the record together. Of several members that say what the decoder writes
    (span corruption, prefix LM and their kin), the last one does.

    Raises CorruptionError for a member that is no corruption.
    """
    members = tuple(members)
    for position, member in enumerate(members):
        _check_corruption(member, f"members[{position}] of a chain")

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

    Raises CorruptionError for no members, members that are not such triples, or weights that are negative,
    infinite, or 0 for all of them.
    """
    members = tuple(_checked(member, f"members[{i}] of a mixture") for i, member in enumerate(members))
    if not members:
        raise CorruptionError("members=[] of a mixture: give at least one")
    weights = check_weights("weights", (weight for _, weight, _ in members))

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


def _checked(member: tuple[Corruption, float, int | None], name: str) -> tuple[Corruption, float, int | None]:
    if not isinstance(member, tuple | list) or len(member) != 3:
        raise CorruptionError(f"{name} is {member!r}; give (corruption, weight, mode token or None)")
    corruption, weight, mode_token = member
    _check_corruption(corruption, name)
    if mode_token is not None:
        must = "be the id of a symbol, 1 or more, or None"
        mode_token = check_number("mode_token", mode_token, 1, tf.int32.max, must=must, whole=True)
    return corruption, weight, mode_token


def _check_corruption(corruption: Corruption, name: str) -> None:
    if not callable(corruption):
        raise CorruptionError(
            f"{name} is {corruption!r}, and no corruption; build one, with presets.build if that is its name"
        )
