"""Document rotation: a text is rotated to begin with a random token (Lewis et al. 2019, section 2.2).

The token is chosen uniformly, so one of the n choices leaves a text of n tokens unchanged. In fairseq's
released code two do. The marker is an addition of this library; BART has none.

Shapes: E examples, C movable tokens.
"""

import operator

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.rates import Rate, Schedule
from denoise_jax.corruption.record import Corruption, Noised, Op, insert, rearrange, sentence_of
from denoise_jax.corruption.row_partition import RowPartition, changes, take
from denoise_jax.corruption.symbols import Symbols
from denoise_jax.corruption.units import UNITS, check_unit, units


def document_rotation(
    symbols: Symbols,
    *,
    rotate_prob: float | Schedule = 1.0,
    sentinel: bool | int = False,
    unit: str = "token",
) -> Corruption:
    """Rotates each text, with probability `rotate_prob`, to begin with a uniformly random unit.

    Args:
      rotate_prob: probability for each text, independently.
      sentinel: id inserted before the token with which the text originally began, in every text that is
        rotated, even if the random unit is the first one. True uses `symbols.rotation_token`, False inserts
        nothing.
      unit: "token", "word" or "sentence". Sentences are those of the record's `sentence_ids`; where earlier
        noise has mixed them, each run of tokens from one sentence counts as a sentence.

    `Symbols.movable` says what moves; all other tokens keep their positions. A text without movable tokens
    is returned unchanged.

    Raises CorruptionError for an option out of bounds, and for a sentinel that is not a protected id.
    """
    rate = Rate(rotate_prob, "rotate_prob")
    marker = _marker_id(symbols, sentinel)
    check_unit(symbols, unit, (*UNITS, "sentence"))

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        movable = symbols.movable(noised)
        positions, partition = noised.partition.where(movable)
        sizes = partition.row_lengths
        one_each = RowPartition.from_row_lengths(tf.ones_like(sizes))
        rotated = rate.hits(draw(key, "rotation.choice"), one_each, noised.steps) & (sizes > 0)
        if unit == "sentence":
            unit_ids = sentence_of(noised, positions, partition)
        else:
            unit_ids = take(units(symbols, noised, unit, movable).unit_ids, positions)
        pivot = tf.where(rotated, _pivots(unit_ids, partition, key), 0)  # [E]
        offsets = (partition.offsets + partition.broadcast(pivot)) % partition.broadcast(sizes)
        order = partition.broadcast(partition.row_starts) + offsets
        turned = rearrange(noised, positions, take(positions, order))
        return turned if marker is None else _marked(turned, marker, positions, partition, pivot, rotated)

    return corrupt


def _marker_id(symbols: Symbols, sentinel: bool | int) -> int | None:
    if sentinel is False:
        return None
    if sentinel is True:
        if symbols.rotation_token is None:
            raise CorruptionError(
                "sentinel=True requires symbols.rotation_token, which this vocabulary does not have: "
                "give rotation_token, or the id of another special token as sentinel"
            )
        return symbols.rotation_token
    try:
        token = operator.index(sentinel)
    except TypeError:
        raise CorruptionError(
            f"sentinel={sentinel!r} must be True, False or the id of a special token"
        ) from None
    if token == 0:
        raise CorruptionError("sentinel=0 is padding to packing; give another id, or False for none")
    if token not in symbols.protected:
        raise CorruptionError(
            f"sentinel={token} is not a protected id, so noise might change it; add it to symbols.protected"
        )
    return token


def _pivots(unit_ids: tf.Tensor, partition: RowPartition, key: tf.Tensor) -> tf.Tensor:
    """Offset of the first token of a random unit of each row: [E]; arbitrary for empty rows.

    A unit begins where unit_ids [C] change.
    """
    first, unit_partition = partition.where(changes(unit_ids))
    choice = draw(key, "rotation.pivot") % tf.maximum(unit_partition.row_lengths, 1)
    return tf.gather(tf.concat([first, [0]], 0), unit_partition.row_starts + choice) - partition.row_starts


def _marked(
    noised: Noised,
    marker: int,
    positions: tf.Tensor,
    partition: RowPartition,
    pivot: tf.Tensor,
    rotated: tf.Tensor,
) -> Noised:
    """Inserts `marker` before the token that was first, in the examples that were `rotated` [E]."""
    sizes = partition.row_lengths
    first = partition.row_starts + (sizes - pivot) % tf.maximum(sizes, 1)
    before = tf.gather(positions, tf.boolean_mask(first, rotated))
    markers = RowPartition.from_row_lengths(tf.cast(rotated, tf.int32))
    return insert(noised, before, markers, tf.fill(tf.shape(before), marker), Op.SENTINEL)
