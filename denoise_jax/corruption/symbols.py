"""What noise needs to know about a vocabulary.

Shapes: N corrupted tokens of a record.
"""

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
    """The special tokens of a vocabulary, and where its words begin.

    Args:
      mask_token: id of the mask; not 0, which packing treats as padding.
      vocab_size: ids are 0 ... vocab_size - 1.
      protected: ids that are never masked, moved, deleted or drawn at random: padding, start and end of text,
        separators of documents. Id 0 and the ids of all other arguments are added to them.
      separator: id that ends a sentence and moves with it (mBART), if any.
      rotation_token: id that marks where a rotated document began, if any.
      sentinels: ids that take the place of spans, in order (T5).
      modes: ids that announce the kind of noise, by name (UL2).
      word_starts: bool [vocab_size], whether each id begins a word; None if this is unknown.

    Raises:
      CorruptionError: an id is outside the vocabulary or has two roles, the mask is id 0, `word_starts` has
        the wrong shape, or no id is left for text.
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
        must = "be a whole number, 2 or more, so that there is a token besides the mask"
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
                        f"{field}={token} is also the id of {role[token]}; ids must be distinct"
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
            raise CorruptionError(f"protected={self.protected} leaves no id for text")

    @property
    def text_ids(self) -> np.ndarray:
        """The ids that are not protected, which noise may change or draw: int32, ascending."""
        return np.flatnonzero(self._unprotected()).astype(np.int32)

    def eligible(self, noised: Noised) -> tf.Tensor:
        """Tokens that noise may mask, delete or replace: unprotected text without noise; bool [N].

        Raises InvalidArgumentError at run time for an id outside the vocabulary.
        """
        return take(tf.constant(self._unprotected()), noised.ids) & (noised.op == Op.KEEP)

    def movable(self, noised: Noised) -> tf.Tensor:
        """Tokens that may move: text, separators of sentences, and what noise wrote in their place; bool [N].

        Special tokens of the text (start, end, separators of documents) and those that mark a position (of a
        rotation, or a mode token) stay where they are, and the movable tokens are reordered around them.
        """
        table = self._unprotected()
        if self.separator is not None:
            table[self.separator] = True
        written = (noised.op != Op.KEEP) & ((noised.op != Op.SENTINEL) | (noised.span > 1))
        return written | (take(tf.constant(table), noised.ids) & (noised.op == Op.KEEP))

    def random_ids(self, draws: tf.Tensor) -> tf.Tensor:
        """Ids of text, uniformly distributed, from int32 draws of the same shape."""
        ids = self.text_ids
        return take(tf.constant(ids), draws % len(ids))

    def begins_word(self, ids: tf.Tensor, field: str) -> tf.Tensor:
        """Whether each of `ids` begins a word: bool, same shape.

        Raises CorruptionError, naming `field`, if the vocabulary has no `word_starts`.
        """
        if self.word_starts is None:
            raise CorruptionError(
                f"{field} needs words, but where they begin in this vocabulary is unknown: give word_starts"
            )
        return take(tf.constant(np.asarray(self.word_starts, bool)), ids)

    def mode(self, name: str) -> int:
        """Id of the mode token `name`; raises CorruptionError if the vocabulary lacks it."""
        if name not in self.modes:
            hint = nearest(name, self.modes) if self.modes else "it has none"
            raise CorruptionError(f"mode_token={name!r} is not in the vocabulary; {hint}")
        return self.modes[name]

    def _unprotected(self) -> np.ndarray:
        table = np.ones(self.vocab_size, bool)
        table[list(self.protected)] = False
        return table
