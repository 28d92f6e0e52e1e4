"""What noise must know of a vocabulary."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from denoise_jax.corruption.options import CorruptionError, check_number
from denoise_jax.corruption.record import Noised, Op
from denoise_jax.corruption.row_partition import take
from denoise_jax.errors import nearest


@dataclasses.dataclass(frozen=True, eq=False)
class Symbols:
    """Built once for each vocabulary.

    Args:
      mask_token: id of the mask; not 0, which packing takes for padding.
      vocab_size: ids are 0 ... vocab_size - 1.
      protected: ids that are never masked, moved, deleted or drawn: padding, start and end of text,
        separators. The symbols named here are always added to them, and id 0, which packing drops.
      separator: id that ends a sentence and travels with it (mBART), if any.
      rotation_token: id that marks where a rotated document began, if any.
      sentinels: ids that stand for spans, each under a name of its own, in order (T5).
      modes: ids that tell the model which kind of noise it faces, by name (UL2).
      word_starts: for each id whether it begins a word, bool [vocab_size]; None where nobody can tell.

    Raises:
      CorruptionError: an id outside the vocabulary, or in two roles; a mask that is id 0; a table of the
        wrong size.
    """

    mask_token: int
    vocab_size: int
    protected: tuple[int, ...] = ()
    separator: int | None = None
    rotation_token: int | None = None
    sentinels: tuple[int, ...] = ()
    modes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    word_starts: np.ndarray | None = None

    def __post_init__(self):
        must = "be a whole number, 2 or more, for a mask and a token beside it"
        check_number("vocab_size", self.vocab_size, 2, tf.int32.max, must=must, whole=True)
        last = self.vocab_size - 1
        named = {
            "mask_token": (self.mask_token,),
            "separator": () if self.separator is None else (self.separator,),
            "rotation_token": () if self.rotation_token is None else (self.rotation_token,),
            "sentinels": self.sentinels,
            "modes": tuple(self.modes.values()),
        }
        must = f"be an id of the vocabulary other than 0, so between 1 and vocab_size - 1 = {last}"
        every = {0, *(check_number("protected", i, 0, last, must=must, whole=True) for i in self.protected)}
        role: dict[int, str] = {}
        for field, ids in named.items():
            for token in (check_number(field, i, 1, last, must=must, whole=True) for i in ids):
                if token in role:
                    raise CorruptionError(
                        f"{field}={token} is among {role[token]} already; ids must be distinct"
                    )
                role[token] = field
        every |= {*role}
        if self.word_starts is not None and np.shape(self.word_starts) != (self.vocab_size,):
            raise CorruptionError(
                f"word_starts has shape {np.shape(self.word_starts)}; give one flag for each of the "
                f"{self.vocab_size} ids"
            )
        object.__setattr__(self, "protected", tuple(sorted(every)))
        if len(self.text_ids) == 0:
            raise CorruptionError(f"protected={self.protected} leaves no token of text")

    @property
    def text_ids(self) -> np.ndarray:
        """Ids that noise may touch or draw, ascending: int32 [k]."""
        return np.flatnonzero(self._unprotected()).astype(np.int32)

    def eligible(self, noised: Noised) -> tf.Tensor:
        """Columns that noise may mask, delete or replace: text that no earlier noise has written; bool [n].

        Raises InvalidArgumentError when run on an id outside the vocabulary.
        """
        return take(tf.constant(self._unprotected()), noised.ids) & (noised.op == Op.KEEP)

    def movable(self, noised: Noised) -> tf.Tensor:
        """Columns that change places: text, ends of sentences, and what noise wrote in their place; bool [n].

        Symbols of the text itself (start, end, separators of documents) and those that mark a place (of a
        rotation, of a mode) keep their columns, and all else flows around them.
        """
        table = self._unprotected()
        if self.separator is not None:
            table[self.separator] = True
        written = (noised.op != Op.KEEP) & ((noised.op != Op.SENTINEL) | (noised.span > 1))
        return written | (take(tf.constant(table), noised.ids) & (noised.op == Op.KEEP))

    def random_ids(self, draws: tf.Tensor) -> tf.Tensor:
        """Ids of text, all alike, from int32 draws; shape kept."""
        ids = self.text_ids
        return take(tf.constant(ids), draws % len(ids))

    def begins_word(self, ids: tf.Tensor, field: str) -> tf.Tensor:
        """Whether each id begins a word, bool; CorruptionError, naming `field`, where nobody can tell."""
        if self.word_starts is None:
            raise CorruptionError(
                f"{field} asks for words, but nothing tells where this vocabulary's begin: give word_starts"
            )
        return take(tf.constant(np.asarray(self.word_starts, bool)), ids)

    def mode(self, name: str) -> int:
        """Id of the mode token `name`; CorruptionError where the vocabulary has none."""
        if name not in self.modes:
            has = nearest(name, self.modes) if self.modes else "it has none"
            raise CorruptionError(f"mode_token={name!r} is not in the vocabulary; {has}")
        return self.modes[name]

    def _unprotected(self) -> np.ndarray:
        table = np.ones(self.vocab_size, bool)
        table[list(self.protected)] = False
        return table
