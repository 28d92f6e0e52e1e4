"""SentencePiece vocabularies with reserved ids: training, loading, and what the noise must know of them.

TensorFlow is imported only by `seqio_vocabulary`, so that generation starts without it.
"""

import functools
import hashlib
import io
import itertools
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import sentencepiece

from denoise_jax.errors import DataError

MODEL_FILE = "sentencepiece.model"
INFO_FILE = "vocabulary.json"

_SPACE = "▁"  # SentencePiece's mark
# A space, or a letter of a script without spaces: Thai and Lao, Burmese, Khmer, kana, Chinese characters.
_WORD_START = re.compile(
    f"[{_SPACE}\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff]"
)

PAD_ID, EOS_ID, UNK_ID, BOS_ID = 0, 1, 2, 3
MASK = "<mask>"
ROTATION = "<rotation>"
SEPARATOR = "<sep>"
MODES = ("[R]", "[S]", "[X]")  # UL2's: regular spans, prefix, extreme spans
SENTINEL = "<extra_id_{}>"  # T5's spelling
# Control symbols follow the four ids above in this order. Text that contains their names never yields
# their ids, so nobody can type a mask into a corpus.
CONTROL_SYMBOLS = (MASK, ROTATION, SEPARATOR, *MODES)


class Vocabulary:
    """A SentencePiece model that keeps the reserved ids. Encodes and decodes without TensorFlow."""

    def __init__(self, path: str | Path):
        """Loads `path`, a folder written by `train` or a .model file; DataError if it is unfit."""
        self.path = model_path(path)
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_file=str(self.path))
        except (RuntimeError, OSError) as error:
            raise DataError(f"vocabulary {self.path} is not a SentencePiece model: {error}") from None
        reserved = {
            "pad": self.processor.pad_id(),
            "eos": self.processor.eos_id(),
            "unk": self.processor.unk_id(),
        }
        expected = {"pad": PAD_ID, "eos": EOS_ID, "unk": UNK_ID}
        if reserved != expected:
            raise DataError(f"vocabulary {self.path} has ids {reserved}, but {expected} are needed")
        self.mask_id = self._control_id(MASK)

    def _control_id(self, symbol: str) -> int:
        index = self.processor.piece_to_id(symbol)
        if index == UNK_ID or not self.processor.is_control(index):
            raise DataError(
                f"vocabulary {self.path} has no control symbol {symbol}; train one with `denoise-jax vocab`"
            )
        return index

    def __len__(self) -> int:
        return self.processor.get_piece_size()

    @property
    def bos_id(self) -> int:
        """Id that starts the decoder: <s>, or </s> where the model has no <s>."""
        bos = self.processor.bos_id()
        return bos if bos >= 0 else EOS_ID

    @property
    def start_id(self) -> int:
        """Id that starts the decoder."""
        return self.bos_id

    @property
    def opening_ids(self) -> tuple[int, ...]:
        """Ids that stand before every text, on both sides."""
        return ()

    @property
    def control_ids(self) -> tuple[int, ...]:
        """Ids that are symbols and not text: padding, </s>, <s>, the mask and its kin."""
        return tuple(i for i in range(len(self)) if self.processor.is_control(i))

    def symbol_id(self, symbol: str) -> int | None:
        """Id of a control symbol, or None where the vocabulary has none of that name."""
        index = self.processor.piece_to_id(symbol)
        return index if index != UNK_ID and self.processor.is_control(index) else None

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

    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the model file's SHA-256."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, without </s>; reserved symbols in it are ordinary characters."""
        return self.processor.encode(text)

    def encode_masked(self, text: str) -> list[int]:
        """Ids of text in which each `<mask>` stands for one mask id.

        SentencePiece puts a space before whatever it is given; where none follows a mask, as in
        `<mask>.`, it is taken away again, so that the ids are those that noise would have left.
        """
        first, *rest = text.split(MASK)
        ids = self.encode(first)
        for part in rest:
            tokens = self.encode(part)
            if tokens and not part[0].isspace():
                joined = self.piece(tokens[0]).removeprefix(_SPACE)
                joined_id = self.processor.piece_to_id(joined)
                if not joined:
                    tokens = tokens[1:]
                elif joined_id != UNK_ID:
                    tokens = [joined_id, *tokens[1:]]
            ids += [self.mask_id, *tokens]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; symbols other than text are left out."""
        return self.processor.decode([int(i) for i in ids if not self.processor.is_control(int(i))])

    def piece(self, index: int) -> str:
        """The piece behind an id, with SentencePiece's ▁ for a space."""
        return self.processor.id_to_piece(int(index))


def model_path(path: str | Path) -> Path:
    """The .model file that `path`, a folder or a file, stands for; DataError if there is none."""
    path = Path(path)
    file = path / MODEL_FILE if path.is_dir() or path.suffix != ".model" else path
    if not file.is_file():
        raise DataError(f"no vocabulary at {file}: make one with `denoise-jax vocab --output {file.parent}`")
    return file


def files(vocabulary: Vocabulary) -> dict[str, bytes]:
    """What runs and checkpoints keep of a vocabulary: file name → content."""
    info = vocabulary.path.with_name(INFO_FILE)
    content = {MODEL_FILE: vocabulary.path.read_bytes()}
    return content | ({INFO_FILE: info.read_bytes()} if info.is_file() else {})


def train(
    texts: Iterable[str],
    folder: str | Path,
    *,
    size: int,
    model_type: str = "unigram",
    character_coverage: float = 0.9999,
    byte_fallback: bool = False,
    sentinels: int = 0,
    control_symbols: Sequence[str] = (),
) -> Vocabulary:
    """Trains a vocabulary (Kudo & Richardson 2018) and writes it whole or not at all.

    Args:
      texts: documents; their lines are the training sentences.
      folder: receives the model and a JSON description; an existing vocabulary is replaced.
      size: pieces in all, reserved ids included.
      model_type: "unigram" or "bpe".
      character_coverage: share of characters that get a piece of their own.
      byte_fallback: spell unknown characters in bytes (takes 256 pieces) instead of <unk>.
      sentinels: symbols <extra_id_0>, <extra_id_1>, ... that stand for spans in span corruption (T5).
      control_symbols: further reserved symbols, such as language or mode tokens.

    Raises:
      DataError: no text, or a size that SentencePiece cannot reach with this text.
    """
    counts = {"documents": 0, "characters": 0}
    # A symbol that is asked for twice, or reserved anyway, is there once.
    symbols = list(
        dict.fromkeys([*CONTROL_SYMBOLS, *map(SENTINEL.format, range(sentinels)), *control_symbols])
    )

    def lines():
        for text in texts:
            counts["documents"] += 1
            counts["characters"] += len(text)
            yield from (line for line in text.splitlines() if line.strip())

    # SentencePiece's own message for an empty iterator is an internal check, so look first.
    stream = lines()
    first = next(stream, None)
    if first is None:
        raise DataError(f"no text to train a vocabulary on ({counts['documents']} documents, all empty)")

    def all_lines():
        yield first
        yield from stream

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=all_lines(),
            model_writer=model,
            vocab_size=size,
            model_type=model_type,
            character_coverage=character_coverage,
            byte_fallback=byte_fallback,
            pad_id=PAD_ID,
            eos_id=EOS_ID,
            unk_id=UNK_ID,
            bos_id=BOS_ID,
            control_symbols=symbols,
            max_sentence_length=1 << 20,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).split("]")[-1].strip() or str(error)
        raise DataError(f"cannot train a vocabulary of size={size}: {reason}") from None
    info = {"size": size, "model_type": model_type, "control_symbols": symbols}
    _write(Path(folder), model.getvalue(), {**info, **counts})
    return Vocabulary(folder)


def _write(folder: Path, model: bytes, info: dict) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        (Path(temporary) / MODEL_FILE).write_bytes(model)
        (Path(temporary) / INFO_FILE).write_text(json.dumps(info, indent=2) + "\n")
        folder.mkdir(exist_ok=True)
        for name in (MODEL_FILE, INFO_FILE):
            shutil.move(Path(temporary) / name, folder / name)


@functools.lru_cache(maxsize=8)
def seqio_vocabulary(path: str):
    """The same model as a `seqio.SentencePieceVocabulary`; the file is read when first used."""
    import seqio

    path = Path(path)
    file = path if path.suffix == ".model" else path / MODEL_FILE
    return seqio.SentencePieceVocabulary(str(file))
