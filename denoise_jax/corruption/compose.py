"""Composition: corruptions one after the other, each with a key of its own."""

from collections.abc import Sequence

import tensorflow as tf

from denoise_jax.corruption.keys import stream
from denoise_jax.corruption.record import Corruption, Noised


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
