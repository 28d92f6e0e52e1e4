"""Composition of corruptions: a chain applies several in order, a mixture one of several per example."""

from collections.abc import Sequence

import tensorflow as tf

from denoise_jax.corruption.batches import join, select
from denoise_jax.corruption.keys import draw, stream
from denoise_jax.corruption.options import CorruptionError, check_number, check_weights
from denoise_jax.corruption.record import Corruption, Noised, Op, insert, output_setter, sets_outputs
from denoise_jax.corruption.row_partition import RowPartition
from denoise_jax.corruption.span_lengths import look_up
from denoise_jax.corruption.symbols import Symbols


def chain(members: Sequence[Corruption]) -> Corruption:
    """Applies the members in order; an empty chain changes nothing.

    Member k draws from the stream "member k", so changing one member leaves the draws of the others alone,
    and a corruption may occur more than once. Provenance composes: every member acts on all fields of the
    record.

    Raises CorruptionError if a member is not a corruption, or if more than one sets the decoder's outputs
    (span corruption, prefix LM, gap sentences, masked fragment, or a mixture with one of these).
    """
    members = tuple(members)
    for position, member in enumerate(members):
        _check_corruption(member, f"members[{position}] of a chain")
    setters = [position for position, member in enumerate(members) if sets_outputs(member)]
    if len(setters) > 1:
        raise CorruptionError(
            f"members {setters} of a chain each set what the decoder writes; "
            "use only one of them, or combine them in a mixture"
        )

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        for position, member in enumerate(members):
            noised = member(noised, stream(key, f"member {position}"))
        return noised

    return output_setter(corrupt) if setters else corrupt


def mixture(
    members: Sequence[tuple[Corruption, float, int | None]], *, symbols: Symbols | None = None
) -> Corruption:
    """Applies one member to each example, chosen at random in proportion to the weights.

    Args:
      members: tuples (corruption, weight, mode token). The mode token is an id that is inserted before the
        corrupted text to announce the kind of noise (UL2, Tay et al. 2022), or None.
      symbols: if given, mode tokens must be among its protected ids.

    Raises CorruptionError if there are no members, a member is not such a tuple, weights are negative,
    infinite or all 0, or a mode token is not protected, so that later noise would treat it as text.
    """
    members = tuple(_checked(member, f"members[{i}] of a mixture") for i, member in enumerate(members))
    if not members:
        raise CorruptionError("members=[] of a mixture: give at least one")
    weights = check_weights("weights", (weight for _, weight, _ in members))
    for _, _, mode_token in members:
        if None not in (symbols, mode_token) and mode_token not in symbols.protected:
            raise CorruptionError(
                f"mode_token={mode_token} is not a protected id; add it to symbols.protected"
            )

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        member_of_example = look_up(weights, draw(key, "mixture.member"))
        parts, examples = [], []
        for position, (member, _, mode_token) in enumerate(members):
            own = tf.cast(tf.where(member_of_example == position)[:, 0], tf.int32)
            part = member(select(noised, own), stream(tf.gather(key, own), f"member {position}"))
            parts.append(part if mode_token is None else _prepend(part, mode_token))
            examples.append(own)
        return join(parts, examples)

    return output_setter(corrupt) if any(sets_outputs(member) for member, _, _ in members) else corrupt


def _prepend(noised: Noised, mode_token: int) -> Noised:
    ones = tf.ones_like(noised.partition.row_lengths)
    one_each = RowPartition.from_row_lengths(ones)
    return insert(noised, noised.partition.row_starts, one_each, ones * mode_token, Op.SENTINEL)


def _checked(member: tuple[Corruption, float, int | None], name: str) -> tuple[Corruption, float, int | None]:
    if not isinstance(member, tuple | list) or len(member) != 3:
        raise CorruptionError(f"{name} is {member!r}; give (corruption, weight, mode token or None)")
    corruption, weight, mode_token = member
    _check_corruption(corruption, name)
    if mode_token is not None:
        must = "be the id of a special token, 1 or more, or None"
        mode_token = check_number("mode_token", mode_token, 1, tf.int32.max, must=must, whole=True)
    return corruption, weight, mode_token


def _check_corruption(corruption: Corruption, name: str) -> None:
    if not callable(corruption):
        raise CorruptionError(
            f"{name} is {corruption!r}, not a corruption; presets.build makes one from the name of a preset"
        )
