"""Tokenizers of Hugging Face's `tokenizers` library as vocabularies: byte-level BPE (BART), Unigram (mBART).

The folder keeps Hugging Face's files as they were, and beside them INFO_FILE, which says what each special
token is for. `huggingface_tokenizer.py` makes such a folder.
"""

import functools
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from denoise_jax.errors import DataError
from denoise_jax.vocabulary.base import (
    BOS_ID,
    INFO_FILE,
    SPACE,
    TOKENIZER_FILE,
    UNK_ID,
    Vocabulary,
)

ORIGINAL_FILES = (TOKENIZER_FILE, "tokenizer_config.json", "special_tokens_map.json")
ROLES = ("pad", "eos", "unk", "bos")  # in the order of our ids


class TokenizersVocabulary(Vocabulary):
    """The tokenizer of another's model, its ids in our order: padding, </s>, unknown, <s>, all others."""

    bos_id = BOS_ID

    def __init__(self, path: str | Path):
        """Loads the folder `path`; DataError, naming the file, if it is unfit."""
        self.path = Path(path)
        self.kept = {name: self.path / name for name in (*ORIGINAL_FILES, INFO_FILE)}
        parts = read_json(self.kept[TOKENIZER_FILE])
        self._roles = read_json(self.kept[INFO_FILE])
        try:
            tokenizer = Tokenizer.from_str(json.dumps(parts))
            self._names = names(tokenizer, self.kept[TOKENIZER_FILE])
        except DataError:
            raise
        except Exception as error:  # the library raises nothing more particular
            raise DataError(f"{self.kept[TOKENIZER_FILE]} is not a tokenizer: {error}") from None
        number = {name: index for index, name in enumerate(self._names)}
        first = [self._original(number, role) for role in ROLES]
        rest = np.setdiff1d(np.arange(len(self._names)), first)
        self.hf_ids = np.concatenate([first, rest]).astype(np.int32)
        self._own_ids = np.argsort(self.hf_ids).astype(np.int32)
        self._number = {name: int(self._own_ids[index]) for name, index in number.items()}
        self._set_symbols(tokenizer)
        self._byte_level = "ByteLevel" in _types(parts.get("decoder"))
        self._decoder = tokenizer
        self._encoder = _of_plain_text(parts, {self._names[self.hf_ids[i]] for i in self._special})

    def _original(self, number: dict[str, int], role: str) -> int:
        """Hugging Face's id of the token that is `role`."""
        name = self._roles.get(role)
        if name not in number:
            raise DataError(
                f"{self.kept[INFO_FILE]}: {role}={name!r} is no token of {TOKENIZER_FILE} beside it"
            )
        return number[name]

    def _set_symbols(self, tokenizer: Tokenizer) -> None:
        roles = self._roles
        self.mask_id = None if roles.get("mask") is None else self._own("mask", roles["mask"])
        self.start_id = self._own("start", roles.get("start"))
        self.opening_ids = tuple(self._own("opening", name) for name in roles.get("opening", ()))
        added = tokenizer.get_added_tokens_decoder()
        special = {int(self._own_ids[index]) for index, token in added.items() if token.special}
        special |= {*range(len(ROLES)), *self.opening_ids, self.start_id}
        special |= {self._own("symbols", name) for name in roles.get("symbols", ())}
        self._special = special | ({self.mask_id} if self.mask_id is not None else set())
        # As in SentencePiece, an unknown character is text that noise may touch.
        self.control_ids = tuple(sorted(self._special - {UNK_ID}))

    def _own(self, role: str, name: str | None) -> int:
        if name not in self._number:
            raise DataError(
                f"{self.kept[INFO_FILE]}: {role}={name!r} is no token of {TOKENIZER_FILE} beside it"
            )
        return self._number[name]

    def __len__(self) -> int:
        return len(self._names)

    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the tokenizer and of what its tokens are for."""
        content = self.kept[TOKENIZER_FILE].read_bytes() + self.kept[INFO_FILE].read_bytes()
        return hashlib.sha256(content).hexdigest()[:16]

    def encode(self, text: str) -> list[int]:
        return self.encode_batch([text])[0].tolist()

    def encode_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of many texts behind each other, int32 [n], and their lengths, int64 [texts]."""
        found = [
            encoding.ids for encoding in self._encoder.encode_batch_fast(texts, add_special_tokens=False)
        ]
        lengths = np.fromiter(map(len, found), np.int64, len(found))
        flat = np.fromiter(itertools.chain.from_iterable(found), np.int64, lengths.sum())
        return self._own_ids[flat], lengths

    def decode(self, ids: Sequence[int]) -> str:
        text = [int(self.hf_ids[i]) for i in ids if int(i) not in self._controls]
        return self._decoder.decode(text, skip_special_tokens=False)

    @functools.cached_property
    def _controls(self) -> frozenset[int]:
        return frozenset(self.control_ids)

    def piece(self, index: int) -> str:
        """The token of an id; of byte-level tokens the characters, and bytes of parts of them as \\xe2."""
        name = self._names[self.hf_ids[index]]
        if not self._byte_level or int(index) in self._special or not set(name) <= _BYTES.keys():
            return name
        content = bytes(_BYTES[character] for character in name)
        return content.decode("utf-8", errors="backslashreplace").replace(" ", SPACE)

    def piece_id(self, piece: str) -> int | None:
        return self._id_of_piece.get(piece)

    @functools.cached_property
    def _id_of_piece(self) -> dict[str, int]:
        """By what `piece` gives; a symbol goes before text that reads like it."""
        text = {self.piece(i): i for i in range(len(self)) if i not in self._special}
        return text | {self.piece(i): i for i in self._special}


def names(tokenizer: Tokenizer, file: Path) -> list[str]:
    """Token of each id; DataError, naming the file, unless the ids are 0 ... V - 1."""
    number = tokenizer.get_vocab(with_added_tokens=True)
    found = sorted(number, key=number.get)
    for index, name in enumerate(found):
        if number[name] != index:
            raise DataError(
                f"{file}: its {len(found)} tokens do not have the ids 0 to {len(found) - 1}: {name!r} has "
                f"{number[name]} where {index} is next"
            )
    return found


def read_json(file: Path) -> dict:
    """The JSON object in a file; DataError, naming it, where it is none or another thing."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"no vocabulary in {file.parent}: it lacks {file.name}; `denoise-jax import` makes both "
            f"{TOKENIZER_FILE} and {INFO_FILE}"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{file} holds a {type(content).__name__} where a JSON object is needed")
    return content


def _of_plain_text(parts: dict, special: set[str]) -> Tokenizer:
    """The tokenizer with all text as text: no typed symbol gives a reserved id, and nothing is added or cut.

    Special tokens are not looked for, and their names get a space in front, so that the model cannot find
    them either: a Unigram model takes any piece of its list that it meets. No text that reaches a model has
    a space, since all these tokenizers write another mark for it.
    """
    hidden = {name: f" {name}" for name in special}
    model = dict(parts["model"])
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {hidden.get(name, name): index for name, index in vocabulary.items()}
    else:
        model["vocab"] = [[hidden.get(name, name), score] for name, score in vocabulary]
    if "unk_token" in model:
        model["unk_token"] = hidden.get(model["unk_token"], model["unk_token"])
    added = [
        {**token, "content": hidden.get(token["content"], token["content"])}
        for token in parts.get("added_tokens", ())
    ]
    nothing = {"truncation": None, "padding": None, "post_processor": None}
    tokenizer = Tokenizer.from_str(json.dumps({**parts, **nothing, "model": model, "added_tokens": added}))
    tokenizer.encode_special_tokens = True
    return tokenizer


def _types(part: dict | None) -> Iterator[str]:
    """Types of a component of a tokenizer and of those inside it."""
    if isinstance(part, dict):
        yield part.get("type")
        for inner in (*part.get("decoders", ()), *part.get("pretokenizers", ())):
            yield from _types(inner)


def _byte_alphabet() -> dict[str, int]:
    """Character → byte, as GPT-2 (Radford et al. 2019) writes bytes: visible ones of Latin-1 as they are,
    the others as the characters from 256 on, in order.
    """
    visible = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_alphabet()
