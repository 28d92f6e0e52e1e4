"""Composition: corruptions one after the other, or one of several for each example."""

from collections.abc import Sequence

import tensorflow as tf

from denoise_jax.corruption.keys import draw, stream
from denoise_jax.corruption.options import CorruptionError, check_number, check_weights
from denoise_jax.corruption.record import Corruption, Noised, Op, insert, join, select, writes, writing
from denoise_jax.corruption.row_partition import RowPartition
from denoise_jax.corruption.span_lengths import look_up
from denoise_jax.corruption.symbols import Symbols


def chain(members: Sequence[Corruption]) -> Corruption:
    """The members applied in order; the empty chain changes nothing.

    Member k draws from the stream "member k", so neither its options nor its neighbours' touch another's
    draws, and the same corruption may stand in a chain twice. Provenance composes, since every member
    rearranges all columns of the record together.

    Raises CorruptionError for a member that is no corruption, and for two that say what the decoder writes
    (span corruption, prefix LM and their kin, or mixtures of them): it can write one part of a text only.
    """
    members = tuple(members)
    for position, member in enumerate(members):
        _check_corruption(member, f"members[{position}] of a chain")
    writers = [position for position, member in enumerate(members) if writes(member)]
    if len(writers) > 1:
        raise CorruptionError(
            f"members {writers} of a chain each say what the decoder writes; keep one of them, or mix them"
        )

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        for position, member in enumerate(members):
            noised = member(noised, stream(key, f"member {position}"))
        return noised

    return writing(corrupt) if writers else corrupt


def mixture(
    members: Sequence[tuple[Corruption, float, int | None]], *, symbols: Symbols | None = None
) -> Corruption:
    """One of the members for each example, at random in proportion to their weights.

    Args:
      members: (corruption, weight, mode token); the mode token is the id of a symbol that is put before the
        corrupted text to tell the model which noise it faces (UL2, Tay et al. 2022), or None.
      symbols: of the vocabulary; where they are given, mode tokens must be among its protected ids.

    Raises CorruptionError for no members, members that are not such triples, mode tokens that later noise
    would take for text, or weights that are negative, infinite, or 0 for all of them.
    """
    members = tuple(_checked(member, f"members[{i}] of a mixture") for i, member in enumerate(members))
    if not members:
        raise CorruptionError("members=[] of a mixture: give at least one")
    weights = check_weights("weights", (weight for _, weight, _ in members))
    for _, _, mode_token in members:
        if None not in (symbols, mode_token) and mode_token not in symbols.protected:
            raise CorruptionError(f"mode_token={mode_token} is no protected id; add it to symbols.protected")

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        member_of_example = look_up(weights, draw(key, "mixture.member"))
        parts, examples = [], []
        for position, (member, _, mode_token) in enumerate(members):
            own = tf.cast(tf.where(member_of_example == position)[:, 0], tf.int32)
            part = member(select(noised, own), stream(tf.gather(key, own), f"member {position}"))
            parts.append(part if mode_token is None else _announce(part, mode_token))
            examples.append(own)
        return join(parts, examples)

    return writing(corrupt) if any(writes(member) for member, _, _ in members) else corrupt


def _announce(noised: Noised, mode_token: int) -> Noised:
    """The record with the mode token before each text."""
    ones = tf.ones_like(noised.partition.row_lengths)
    return insert(
        noised,
        noised.partition.row_starts,
        RowPartition.from_row_lengths(ones),
        ones * mode_token,
        Op.SENTINEL,
    )


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
