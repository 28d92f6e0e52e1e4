"""What a vocabulary is, whichever library cuts the text: its interface, and opening the folder of one.

There are two kinds: SentencePiece models, which `denoise-jax vocab` trains, and tokenizers of Hugging Face's
`tokenizers` library, which come with the weights of others. Both have the reserved ids below.
Needs no TensorFlow, so that generation starts without it; `seqio_vocabulary.py` is what SeqIO sees.
"""

import abc
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from denoise_jax.errors import DataError

MODEL_FILE = "sentencepiece.model"
TOKENIZER_FILE = "tokenizer.json"
INFO_FILE = "vocabulary.json"

PAD_ID, EOS_ID, UNK_ID, BOS_ID = 0, 1, 2, 3
MASK = "<mask>"
ROTATION = "<rotation>"
SEPARATOR = "<sep>"
MODES = ("[R]", "[S]", "[X]")  # UL2's: regular spans, prefix, extreme spans
SENTINEL = "<extra_id_{}>"  # T5's spelling

SPACE = "▁"  # a space in a piece, as SentencePiece writes it
# A space, or a letter of a script without spaces: Thai and Lao, Burmese, Khmer, kana, Chinese characters.
_WORD_START = re.compile(
    f"[{SPACE}\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff]"
)


class Vocabulary(abc.ABC):
    """Text to ids 0 ... V - 1 and back, without TensorFlow. Ids 0 to 3 are padding, </s>, unknown and <s>.

    Attributes:
      path: what `load` opens: a .model file, or a folder.
      kept: the files that runs and checkpoints keep, by the name that they have there; some may be absent.
      mask_id: id of the mask; None where the vocabulary has none.
      bos_id: id of <s>, or of </s> where the model has no <s>.
      start_id: id that starts the decoder.
      opening_ids: ids that stand before every text, on both sides.
      hf_ids: the id that Hugging Face's files give each of our ids, int32 [V].
      control_ids: ids that are symbols and not text: padding, </s>, <s>, the mask and its kin.
    """

    path: Path
    kept: Mapping[str, Path]
    mask_id: int | None
    bos_id: int
    start_id: int
    opening_ids: tuple[int, ...] = ()
    hf_ids: np.ndarray
    control_ids: tuple[int, ...]

    @abc.abstractmethod
    def __len__(self) -> int:
        """Number of ids, V."""

    @abc.abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of plain text, without </s>; the names of symbols in it are ordinary characters."""

    @abc.abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; symbols other than text are left out."""

    @abc.abstractmethod
    def piece(self, index: int) -> str:
        """What is behind an id, readable, with ▁ for a space."""

    @abc.abstractmethod
    def piece_id(self, piece: str) -> int | None:
        """Id of a piece of text or the name of a symbol; None where there is none."""

    def decode_pieces(self, pieces: Sequence[str]) -> str:
        """Text of pieces as `piece` gives them."""
        ids = (self.piece_id(piece) for piece in pieces)
        return self.decode([UNK_ID if index is None else index for index in ids])

    def files(self) -> dict[str, bytes]:
        """The files that runs and checkpoints keep of it: name → content."""
        return {name: file.read_bytes() for name, file in self.kept.items() if file.is_file()}

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """16 hexadecimal digits that tell vocabularies apart, from the SHA-256 of what decides on ids."""

    def symbol_id(self, symbol: str) -> int | None:
        """Id of a control symbol, or None where the vocabulary has none of that name."""
        index = self.piece_id(symbol)
        return index if index in self.control_ids else None

    @property
    def sentinel_ids(self) -> tuple[int, ...]:
        """Ids of <extra_id_0>, <extra_id_1>, ... as far as they go."""
        ids = (self.symbol_id(SENTINEL.format(k)) for k in itertools.count())
        return tuple(itertools.takewhile(lambda index: index is not None, ids))

    @property
    def mode_ids(self) -> dict[str, int]:
        """Ids of the mode tokens that it has, by name."""
        ids = {name: self.symbol_id(name) for name in MODES}
        return {name: index for name, index in ids.items() if index is not None}

    @property
    def word_starts(self) -> np.ndarray:
        """For each id whether the piece begins a word, bool [V].

        A word begins at a space. Scripts that put none between words have a word at each piece: in Chinese,
        Japanese, Thai, Lao, Khmer and Burmese whole-word noise works on pieces.
        """
        return np.array([bool(_WORD_START.match(self.piece(i))) for i in range(len(self))])

    def encode_masked(self, text: str) -> list[int]:
        """Ids of text in which each `<mask>` stands for one mask id, as noise would have left them.

        The space before a mask belongs to what it hides. Some tokenizers put a space before whatever they
        are given; where none follows a mask, as in `<mask>.`, it is taken away again.

        Raises DataError for a mask that the vocabulary does not have.
        """
        *before, last = text.split(MASK)
        parts = [*map(str.rstrip, before), last]
        ids = self.encode(parts[0])
        for part in parts[1:]:
            ids += [self.known_mask(), *self._encode_behind_mask(part)]
        return ids

    def _encode_behind_mask(self, part: str) -> list[int]:
        ids = self.encode(part)
        if not ids or part[0].isspace() or not (first := self.piece(ids[0])).startswith(SPACE):
            return ids
        if first == SPACE:
            return ids[1:]
        joined = self.piece_id(first.removeprefix(SPACE))
        return ids if joined is None else [joined, *ids[1:]]

    def known_mask(self) -> int:
        """Id of the mask; DataError where there is none."""
        if self.mask_id is None:
            raise DataError(f"vocabulary {self.path} has no mask token, which noise and filling in need")
        return self.mask_id
