"""Document rotation: a text begins at a token of its middle, and what stood before follows its end.

Lewis et al. 2019, section 2.2: a token is chosen uniformly and the text is rotated to begin with it, so one
of n pivots leaves the text as it was. In fairseq's released code two do, and so its identity is twice as
likely as any other. The sentinel is ours: BART marks nothing.

Legend of shapes: n columns, c of which move; e examples.
"""

import operator

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.rates import Rate, Schedule
from denoise_jax.corruption.record import Corruption, Noised, Op, insert, rearrange
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
    """Rotate each text, with probability `rotate_prob`, to begin with a unit of it, all alike.

    Args:
      rotate_prob: probability for each text, independently.
      sentinel: a symbol put before the token with which the text began, in every text that is rotated, also
        where the pivot is the first unit; True: `symbols.rotation_token`; an int: that id; False: none.
      unit: what a text may begin with: "token", "word", or "sentence" (the record's `sentence_ids`; where
        earlier noise has mixed sentences, a token whose left neighbour is of another one).

    What moves is told by `Symbols.movable`; it flows through its own columns, and all else stays. A text in
    which nothing moves comes back as it was.
    Raises CorruptionError for an option outside its bounds, and for a sentinel that noise might touch.
    """
    rate = Rate(rotate_prob, "rotate_prob")
    mark = _sentinel_id(symbols, sentinel)
    check_unit(symbols, unit, (*UNITS, "sentence"))

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        movable = symbols.movable(noised)
        columns, partition = noised.partition.where(movable)
        each = RowPartition.from_row_lengths(tf.ones_like(partition.row_lengths))
        rotated = rate.hits(draw(key, "rotation.choice"), each, noised.steps) & (partition.row_lengths > 0)
        number = _units(symbols, noised, unit, movable, columns, partition)
        pivot = tf.where(rotated, _pivots(number, partition, key), 0)  # [e]
        order = partition.broadcast(partition.row_starts) + (
            partition.offsets + partition.broadcast(pivot)
        ) % partition.broadcast(partition.row_lengths)
        turned = rearrange(noised, columns, take(columns, order))
        return turned if mark is None else _marked(turned, mark, columns, partition, pivot, rotated)

    return corrupt


def _sentinel_id(symbols: Symbols, sentinel: bool | int) -> int | None:
    if sentinel is False:
        return None
    if sentinel is True:
        if symbols.rotation_token is None:
            raise CorruptionError(
                "sentinel=True asks for symbols.rotation_token, which this vocabulary does not have: "
                "give rotation_token, or the id of another symbol as sentinel"
            )
        return symbols.rotation_token
    try:
        token = operator.index(sentinel)
    except TypeError:
        raise CorruptionError(f"sentinel={sentinel!r} must be True, False or the id of a symbol") from None
    if token == 0:
        raise CorruptionError(
            "sentinel=0 is what packing takes for padding; give another id, or False for none"
        )
    if token not in symbols.protected:
        raise CorruptionError(
            f"sentinel={token} is no protected id, so noise might touch it; add it to symbols.protected"
        )
    return token


def _units(
    symbols: Symbols,
    noised: Noised,
    unit: str,
    movable: tf.Tensor,
    columns: tf.Tensor,
    partition: RowPartition,
) -> tf.Tensor:
    """A number for the unit of each movable column [c]; where it changes, a new unit begins."""
    if unit != "sentence":
        return take(units(symbols, noised, unit, movable).unit_ids, columns)
    # An insertion at the end of an example has no token behind it, and belongs to the last sentence.
    last = partition.broadcast(noised.target_partition.row_starts + noised.target_partition.row_lengths)
    return take(noised.sentence_ids, tf.minimum(take(noised.source, columns), last) - 1)


def _pivots(number: tf.Tensor, partition: RowPartition, key: tf.Tensor) -> tf.Tensor:
    """Place in its row of the first column of a random unit, all alike: [e]; anything where there is none."""
    first, own = partition.where(changes(number))
    one = own.row_starts + draw(key, "rotation.pivot") % tf.maximum(own.row_lengths, 1)
    return tf.gather(tf.concat([first, [0]], 0), one) - partition.row_starts


def _marked(
    noised: Noised,
    mark: int,
    columns: tf.Tensor,
    partition: RowPartition,
    pivot: tf.Tensor,
    rotated: tf.Tensor,
) -> Noised:
    """The rotated record with the symbol `mark` before the column that was first, where `rotated` [e]."""
    began = partition.row_starts + (partition.row_lengths - pivot) % tf.maximum(partition.row_lengths, 1)
    before = tf.gather(columns, tf.boolean_mask(began, rotated))
    marks = RowPartition.from_row_lengths(tf.cast(rotated, tf.int32))
    return insert(noised, before, marks, tf.fill(tf.shape(before), mark), Op.SENTINEL)
