"""The record that all noise reads and writes: corrupted ids, and where each of them came from.

Legend of shapes: n corrupted tokens, m target tokens. All columns are int32 and never 0, so that they
can be packed beside the ids, with 0 left to mean padding.
"""

import dataclasses
import enum
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class CorruptionError(ValueError):
    """A mistake in a corruption's options, told in one line with the field, the value and the remedy."""


class Op(enum.IntEnum):
    """What made a token of the corrupted text."""

    KEEP = 1  # it is the target token
    MASK = 2  # a mask that stands for hidden tokens
    INSERT = 3  # a symbol that stands for nothing
    RANDOM = 4  # another token in the place of the target's
    SENTINEL = 5  # a marker written by noise


class TargetNoise(enum.IntEnum):
    """What became of a token of the target; each position is exactly one of these."""

    VISIBLE = 1  # it stands in the corrupted text
    HIDDEN = 2  # a mask or another symbol stands for it
    DELETED = 3  # nothing tells of it


class Noised(NamedTuple):
    """One example under noise; every column is int32.

    `source` and `span` describe a column as it stood when its noise was put on. A mask hides `span - 1`
    tokens which were neighbours then: the first of them is target token `source`; the others are the next
    target tokens unless an earlier member of the chain moved text, in which case they are those that
    followed in the moved order. An insertion's source is that of the token it stands before, or m + 1 at
    the end. So `span - 1`, summed over all columns, is m less the deleted tokens, after any chain; and
    the sources of KEEP columns are exactly the VISIBLE positions, each once.
    """

    ids: tf.Tensor  # [n] corrupted token ids
    source: tf.Tensor  # [n] 1-based target position
    span: tf.Tensor  # [n] tokens stood for, plus one: 2 kept, L + 1 mask over L, 1 inserted
    op: tf.Tensor  # [n] Op
    targets: tf.Tensor  # [m] the clean token ids
    sentence_ids: tf.Tensor  # [m] sentence of each target token, from 1
    target_noise: tf.Tensor  # [m] TargetNoise


Corruption = Callable[[Noised, tf.Tensor], Noised]
"""(record, key) -> record; the key is a stateless seed: shape [2], int32 or int64."""


def clean(ids: tf.Tensor, sentence_ids: tf.Tensor | None = None) -> Noised:
    """The record before any noise, from ids [m] and the 1-based sentence of each (default: all one)."""
    ids = tf.cast(ids, tf.int32)
    ones = tf.ones_like(ids)
    return Noised(
        ids=ids,
        source=tf.range(1, tf.size(ids) + 1),
        span=ones * 2,
        op=ones * Op.KEEP,
        targets=ids,
        sentence_ids=ones if sentence_ids is None else tf.cast(sentence_ids, tf.int32),
        target_noise=ones * TargetNoise.VISIBLE,
    )


def take(noised: Noised, index: tf.Tensor) -> Noised:
    """The record with its corrupted text rearranged: column k of the result is column index[k]."""
    ids, source, span, op = (tf.gather(column, index) for column in noised[:4])
    return noised._replace(ids=ids, source=source, span=span, op=op)


def replay(noised: Noised, mask_token: int) -> tf.Tensor:
    """Corrupted ids [n], rebuilt from targets and provenance; equal to `noised.ids` after any chain.

    Kept tokens are read from the target, masks and insertions are the mask; random tokens and sentinels
    are told by nothing but themselves.
    """
    last = tf.size(noised.targets)
    kept = tf.gather(noised.targets, tf.minimum(noised.source, last) - 1)
    masked = (noised.op == Op.MASK) | (noised.op == Op.INSERT)
    return tf.where(noised.op == Op.KEEP, kept, tf.where(masked, mask_token, noised.ids))


@dataclasses.dataclass(frozen=True)
class Symbols:
    """What noise must know of a vocabulary; built once for each.

    `protected` ids are never masked, moved, deleted or drawn: padding, end and start of text, separators,
    sentinels, mode tokens. The mask is always added to them, so that no chain masks a mask.
    Raises CorruptionError for an id outside the vocabulary, or a mask that is id 0, which packing drops.
    """

    mask_token: int
    vocab_size: int
    protected: tuple[int, ...] = ()

    def __post_init__(self):
        if self.vocab_size < 2:
            raise CorruptionError(
                f"vocab_size={self.vocab_size} leaves no token beside the mask; give 2 or more"
            )
        if not 0 < self.mask_token < self.vocab_size:
            raise CorruptionError(
                f"mask_token={self.mask_token} must be an id of the vocabulary other than 0, "
                f"so between 1 and vocab_size - 1 = {self.vocab_size - 1}"
            )
        for token in self.protected:
            if not 0 <= token < self.vocab_size:
                raise CorruptionError(
                    f"protected={token} must be an id of the vocabulary, between 0 and {self.vocab_size - 1}"
                )
        object.__setattr__(self, "protected", tuple(sorted({*self.protected, self.mask_token})))

    def eligible(self, ids: tf.Tensor) -> tf.Tensor:
        """1 where noise may touch the token, 0 where it is protected; int32, the shape of `ids`.

        Raises InvalidArgumentError when run on an id outside the vocabulary.
        """
        table = np.ones(self.vocab_size, np.int32)
        table[list(self.protected)] = 0
        return tf.gather(tf.constant(table), ids)
