"""Tokenizers of Hugging Face's `tokenizers` library as vocabularies: byte-level BPE (BART), Unigram (mBART).

The files are Hugging Face's own, unchanged, plus INFO_FILE, which names the role of each special token.
`interop/tokenizer_import.py` makes them.
"""

import functools
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer

from denoise_jax.errors import DataError
from denoise_jax.vocabulary.base import (
    BOS_ID,
    INFO_FILE,
    MASK,
    ORIGINAL_FILES,
    SPACE,
    TOKENIZER_FILE,
    UNK_ID,
    Vocabulary,
)

ROLES = ("pad", "eos", "unk", "bos")  # in the order of our ids


class TokenizersVocabulary(Vocabulary):
    """A tokenizer from Hugging Face, with its ids permuted to padding, </s>, unknown, <s>, all others."""

    bos_id = BOS_ID
    _file_names = (*ORIGINAL_FILES, INFO_FILE)
    _defining_files = (TOKENIZER_FILE, INFO_FILE)

    def __init__(self, files: Mapping[str, bytes], name: str):
        """DataError, naming the file, if one is missing or cannot be used."""
        super().__init__(files, name)
        parts, self._roles = self._json(TOKENIZER_FILE), self._json(INFO_FILE)
        file = f"{name}/{TOKENIZER_FILE}"
        try:
            tokenizer = Tokenizer.from_str(json.dumps(parts))
            self._names = names(tokenizer, file)
        except DataError:
            raise
        except Exception as error:  # the library raises nothing more specific
            raise DataError(f"{file} is not a tokenizer: {error}") from None
        self._hf_id = {token: index for index, token in enumerate(self._names)}
        first = [self._hf_id[self._known(role, self._roles.get(role))] for role in ROLES]
        rest = np.setdiff1d(np.arange(len(self._names)), first)
        self.hf_ids = np.concatenate([first, rest]).astype(np.int32)
        self._own_ids = np.argsort(self.hf_ids).astype(np.int32)
        self._id_of_name = {token: int(self._own_ids[index]) for token, index in self._hf_id.items()}
        self._set_symbols(tokenizer)
        self._byte_level = "ByteLevel" in _types(parts.get("decoder"))
        self._decoder = tokenizer
        special = {self._names[self.hf_ids[i]] for i in self._special}
        self._encoder = _plain_text_tokenizer(parts, special)
        self._mask_encoder = None
        if self.mask_id is not None:
            self._mask_encoder = _plain_text_tokenizer(parts, special, matched=self._roles["mask"])

    def _json(self, file: str) -> dict:
        if file not in self._files:
            raise DataError(
                f"no vocabulary in {self.name}: it lacks {file}; `denoise-jax import` makes both "
                f"{TOKENIZER_FILE} and {INFO_FILE}"
            )
        return json_object(self._files[file], f"{self.name}/{file}")

    def _known(self, role: str, token: str | None) -> str:
        if token not in self._hf_id:
            raise DataError(
                f"{self.name}/{INFO_FILE}: {role}={token!r} is not a token of {TOKENIZER_FILE} next to it"
            )
        return token

    def _set_symbols(self, tokenizer: Tokenizer) -> None:
        roles = self._roles

        def own(role: str, token: str | None) -> int:
            return self._id_of_name[self._known(role, token)]

        self.mask_id = None if roles.get("mask") is None else own("mask", roles["mask"])
        self.start_id = own("start", roles.get("start"))
        self.opening_ids = tuple(own("opening", token) for token in roles.get("opening", ()))
        self.language_opens = roles.get("language_opens", False)
        added = tokenizer.get_added_tokens_decoder()
        special = {int(self._own_ids[index]) for index, token in added.items() if token.special}
        special |= {*range(len(ROLES)), *self.opening_ids, self.start_id}
        special |= {own("symbols", token) for token in roles.get("symbols", ())}
        self._special = special | ({self.mask_id} if self.mask_id is not None else set())
        # As in SentencePiece, an unknown character is text that noise may change.
        self.control_ids = tuple(sorted(self._special - {UNK_ID}))

    def __len__(self) -> int:
        return len(self._names)

    def encode(self, text: str) -> list[int]:
        return self.encode_batch([text])[0].tolist()

    def encode_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Concatenated ids of many texts, int32 [n], and their lengths, int64 [texts]."""
        encodings = self._encoder.encode_batch_fast(texts, add_special_tokens=False)
        found = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, found), np.int64, len(found))
        flat = np.fromiter(itertools.chain.from_iterable(found), np.int64, lengths.sum())
        return self._own_ids[flat], lengths

    def encode_masked(self, text: str) -> list[int]:
        """Ids as in Transformers: the tokenizer's file says which spaces around `<mask>` belong to the mask.

        Other symbols are ordinary characters, as in `encode`.

        Raises:
          DataError: the text has a mask and the vocabulary does not.
        """
        if MASK not in text:
            return self.encode(text)
        self.require_mask()
        text = text.replace(MASK, self._roles["mask"])
        return self._own_ids[self._mask_encoder.encode(text, add_special_tokens=False).ids].tolist()

    def decode(self, ids: Sequence[int]) -> str:
        text = [int(self.hf_ids[i]) for i in ids if int(i) not in self._controls]
        return self._decoder.decode(text, skip_special_tokens=False)

    @functools.cached_property
    def _controls(self) -> frozenset[int]:
        return frozenset(self.control_ids)

    def piece(self, index: int) -> str:
        """The token of an id. Byte-level tokens are shown as text, incomplete characters as \\xe2."""
        name = self._names[self.hf_ids[index]]
        if not self._byte_level or int(index) in self._special or not set(name) <= _BYTES.keys():
            return name
        content = bytes(_BYTES[character] for character in name)
        return content.decode("utf-8", errors="backslashreplace").replace(" ", SPACE)

    def piece_id(self, piece: str) -> int | None:
        return self._id_of_piece.get(piece)

    @functools.cached_property
    def _id_of_piece(self) -> dict[str, int]:
        """Inverse of `piece`. A symbol takes precedence over text that reads the same."""
        text = {self.piece(i): i for i in range(len(self)) if i not in self._special}
        return text | {self.piece(i): i for i in self._special}


def names(tokenizer: Tokenizer, file: str | Path) -> list[str]:
    """Token of each id; DataError, naming the file, unless the ids are 0 ... V - 1."""
    index_of = tokenizer.get_vocab(with_added_tokens=True)
    found = sorted(index_of, key=index_of.get)
    for index, name in enumerate(found):
        if index_of[name] != index:
            raise DataError(
                f"{file}: its {len(found)} tokens do not have the ids 0 to {len(found) - 1}: {name!r} has "
                f"{index_of[name]} where {index} is next"
            )
    return found


def read_json(file: Path) -> dict:
    """The JSON object in a file; DataError, naming the file, if it cannot be read."""
    try:
        return json_object(file.read_bytes(), file)
    except OSError as error:
        raise DataError(f"cannot read {file}: {error}") from None


def json_object(content: bytes, name: str | Path) -> dict:
    """The JSON object in a file's content; DataError, naming the file, if it is anything else."""
    try:
        found = json.loads(content.decode("utf-8"))
    except ValueError as error:
        raise DataError(f"{name} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise DataError(f"{name} holds a {type(found).__name__}, but a JSON object is required")
    return found


def _plain_text_tokenizer(parts: dict, special: set[str], matched: str | None = None) -> Tokenizer:
    """The tokenizer with all input treated as text: no typed symbol yields a reserved id.

    Special tokens are not matched, and a space is put in front of their names so that the model cannot find
    them either: a Unigram model uses any piece of its list that it meets. Text that reaches a model contains
    no space, since all these tokenizers replace it by another character.

    The token `matched` keeps its name and is found in text: it is added as a token that is not special.
    """
    renamed = {name: f" {name}" for name in special if name != matched}
    model = dict(parts["model"])
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {renamed.get(name, name): index for name, index in vocabulary.items()}
    else:
        model["vocab"] = [[renamed.get(name, name), score] for name, score in vocabulary]
    if "unk_token" in model:
        model["unk_token"] = renamed.get(model["unk_token"], model["unk_token"])
    added = [
        {
            **token,
            "content": renamed.get(token["content"], token["content"]),
            "special": token["special"] and token["content"] != matched,
        }
        for token in parts.get("added_tokens", ())
    ]
    nothing = {"truncation": None, "padding": None, "post_processor": None}
    tokenizer = Tokenizer.from_str(json.dumps({**parts, **nothing, "model": model, "added_tokens": added}))
    tokenizer.encode_special_tokens = True
    if matched is not None and matched not in {token["content"] for token in added}:
        tokenizer.add_tokens([AddedToken(matched, normalized=False)])
    return tokenizer


def _types(part: dict | None) -> Iterator[str]:
    """Types of a tokenizer component and of the components nested in it."""
    if isinstance(part, dict):
        yield part.get("type")
        for inner in (*part.get("decoders", ()), *part.get("pretokenizers", ())):
            yield from _types(inner)


def _byte_alphabet() -> dict[str, int]:
    """Character → byte in GPT-2's encoding of bytes (Radford et al. 2019).

    Visible characters of Latin-1 represent themselves; the other bytes use the characters from 256 on.
    """
    visible = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_alphabet()
