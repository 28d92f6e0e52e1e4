"""The interface of every vocabulary, whichever library tokenizes the text.

There are two kinds: SentencePiece models, which `denoise-jax vocab` trains, and tokenizers of Hugging Face's
`tokenizers` library, which come with imported weights. Both use the reserved ids below. No TensorFlow is
needed here, so that generation starts without it; `seqio.py` adapts a vocabulary to SeqIO.
"""

import abc
import functools
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from denoise_jax.errors import DataError

MODEL_FILE = "sentencepiece.model"
TOKENIZER_FILE = "tokenizer.json"
INFO_FILE = "vocabulary.json"
ORIGINAL_FILES = (TOKENIZER_FILE, "tokenizer_config.json", "special_tokens_map.json")  # of Hugging Face

PAD_ID, EOS_ID, UNK_ID, BOS_ID = 0, 1, 2, 3
MASK = "<mask>"
ROTATION = "<rotation>"
SEPARATOR = "<sep>"
MODES = ("[R]", "[S]", "[X]")  # UL2: regular spans, prefix, extreme spans
SENTINEL = "<extra_id_{}>"  # T5's spelling

SPACE = "▁"  # how SentencePiece writes a space in a piece
# A space, or a letter of a script without spaces: Thai and Lao, Burmese, Khmer, kana, Chinese characters.
_WORD_START = re.compile(
    f"[{SPACE}\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff]"
)


class SpecialTokens(NamedTuple):
    """Ids added around every text, and the first decoder input for it if the text's language sets that."""

    opening: tuple[int, ...]
    closing: tuple[int, ...]
    start: int | None = None

    @property
    def size(self) -> int:
        """Number of tokens added to a text."""
        return len(self.opening) + len(self.closing)


class Vocabulary(abc.ABC):
    """Maps text to ids 0 ... V - 1 and back. Ids 0 to 3 are padding, </s>, unknown and <s>.

    A vocabulary holds the content of its files in memory and needs no folder. Vocabularies with the same
    fingerprint are equal.

    Attributes:
      name: how error messages refer to it, usually its path.
      mask_id: id of the mask, or None if the vocabulary has no mask.
      bos_id: id of <s>, or of </s> if the model has no <s>.
      start_id: first decoder input.
      opening_ids: ids that open every text, on both sides.
      language_opens: whether a language opens texts, as in mBART-50 (`en_XX X </s>`), and is the first token
        that the decoder predicts. Otherwise, as in mBART, it follows </s> and starts the decoder.
      hf_ids: for each id, the id of the same token in Hugging Face's files, int32 [V].
      control_ids: ids of symbols that are not text: padding, </s>, <s>, the mask and other special tokens.
    """

    name: str
    mask_id: int | None
    bos_id: int
    start_id: int
    opening_ids: tuple[int, ...] = ()
    language_opens: bool = False
    hf_ids: np.ndarray
    control_ids: tuple[int, ...]

    _file_names: ClassVar[tuple[str, ...]]
    _defining_files: ClassVar[tuple[str, ...]]  # their content determines the ids

    def __init__(self, files: Mapping[str, bytes], name: str):
        self._files = {file: files[file] for file in self._file_names if file in files}
        self.name = name

    @abc.abstractmethod
    def __len__(self) -> int:
        """Number of ids, V."""

    @abc.abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of plain text, without </s>. Names of symbols in the text are ordinary characters."""

    @abc.abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; control symbols are skipped."""

    @abc.abstractmethod
    def piece(self, index: int) -> str:
        """Readable form of an id, with ▁ for a space."""

    @abc.abstractmethod
    def piece_id(self, piece: str) -> int | None:
        """Id of a piece of text or of a symbol's name, or None if there is no such piece."""

    def decode_pieces(self, pieces: Sequence[str]) -> str:
        """Text of pieces as returned by `piece`."""
        ids = (self.piece_id(piece) for piece in pieces)
        return self.decode([UNK_ID if index is None else index for index in ids])

    def files(self) -> dict[str, bytes]:
        """Files that runs and checkpoints store: name → content. `vocabulary_from_files` reads them."""
        return dict(self._files)

    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the files that determine the ids."""
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> str:
        content = b"".join(self._files[name] for name in self._defining_files)
        return hashlib.sha256(content).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._fingerprint == other._fingerprint

    def __hash__(self) -> int:
        return hash(self._fingerprint)

    def symbol_id(self, symbol: str) -> int | None:
        """Id of a control symbol, or None if the vocabulary has no control symbol of that name."""
        index = self.piece_id(symbol)
        return index if index in self.control_ids else None

    def special_tokens(self, language: str | None = None, *, field: str = "language") -> SpecialTokens:
        """Ids added around a text: what opens texts in this vocabulary, </s>, and the language, if any.

        The language follows </s> and starts the decoder, as in mBART (Liu et al. 2020), or opens the text, as
        in mBART-50 (Tang et al. 2020): see `language_opens`.

        Raises:
          DataError: `language` is not a control symbol of the vocabulary. The message names `field`.
        """
        if language is None:
            return SpecialTokens(self.opening_ids, (EOS_ID,))
        index = self.symbol_id(language)
        if index is None:
            raise DataError(
                f"{field}={language!r} is not a control symbol of vocabulary {self.name}; "
                "train one with `denoise-jax vocab --control-symbols`"
            )
        if self.language_opens:
            return SpecialTokens((*self.opening_ids, index), (EOS_ID,))
        return SpecialTokens(self.opening_ids, (EOS_ID, index), start=index)

    @property
    def sentinel_ids(self) -> tuple[int, ...]:
        """Ids of <extra_id_0>, <extra_id_1>, ..., up to the first that is missing."""
        ids = (self.symbol_id(SENTINEL.format(k)) for k in itertools.count())
        return tuple(itertools.takewhile(lambda index: index is not None, ids))

    @property
    def mode_ids(self) -> dict[str, int]:
        """Ids of UL2's mode tokens that the vocabulary has, by name."""
        ids = {name: self.symbol_id(name) for name in MODES}
        return {name: index for name, index in ids.items() if index is not None}

    @property
    def word_starts(self) -> np.ndarray:
        """Whether each id begins a word, bool [V].

        A word begins at a space. In scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese)
        every piece begins a word, so whole-word noise works on pieces.
        """
        return np.array([bool(_WORD_START.match(self.piece(i))) for i in range(len(self))])

    def encode_masked(self, text: str) -> list[int]:
        """Ids of text in which each `<mask>` is the mask, as in corrupted training examples.

        A mask includes the space in front of it. Some tokenizers put a space in front of whatever they
        encode; it is removed if the text has no space after the mask, as in `<mask>.` Tokenizers from Hugging
        Face do what their file says instead.

        Raises:
          DataError: the text has a mask and the vocabulary does not.
        """
        *before, last = text.split(MASK)
        parts = [*map(str.rstrip, before), last]
        ids = self.encode(parts[0])
        for part in parts[1:]:
            ids += [self.require_mask(), *self._encode_after_mask(part)]
        return ids

    def _encode_after_mask(self, part: str) -> list[int]:
        ids = self.encode(part)
        if not ids or part[0].isspace() or not (first := self.piece(ids[0])).startswith(SPACE):
            return ids
        if first == SPACE:
            return ids[1:]
        joined = self.piece_id(first.removeprefix(SPACE))
        return ids if joined is None else [joined, *ids[1:]]

    def require_mask(self) -> int:
        """Id of the mask; DataError if the vocabulary has no mask."""
        if self.mask_id is None:
            raise DataError(
                f"vocabulary {self.name} has no mask token, which denoising and infilling need; "
                f"train one that has {MASK} with `denoise-jax vocab`"
            )
        return self.mask_id
