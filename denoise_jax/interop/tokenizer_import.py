"""Converts a Hugging Face tokenizer to a vocabulary: finds out which token has which role."""

import json
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from denoise_jax.errors import DataError
from denoise_jax.vocabulary.base import INFO_FILE, TOKENIZER_FILE
from denoise_jax.vocabulary.tokenizers import ORIGINAL_FILES, ROLES, names, read_json

# The names in BART and mBART, used for roles that no file assigns.
_USUAL = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>", "bos": "<s>", "mask": "<mask>"}
_DEFAULT_LANGUAGE = "en_XX"  # of both tokenizers of mBART


class ImportedTokenizer(NamedTuple):
    """A vocabulary folder made from a Hugging Face folder, and the language of its prompts."""

    files: dict[str, bytes]  # name → content
    language: str | None  # what the tokenizer adds to every text: the `src_lang` of mBART's, by default en_XX


def from_huggingface(folder: str | Path) -> ImportedTokenizer:
    """The tokenizer of a Hugging Face folder, as a vocabulary.

    The tokenizer files are copied byte for byte. vocabulary.json assigns the roles of the special tokens, as
    given by tokenizer_config.json, special_tokens_map.json or config.json, or else by the names in BART. The
    tokens before </s> in the encoding of the empty text start every text, except for a language. Whether a
    language follows </s>, as in mBART, or opens the text, as in mBART-50, follows from the tokenizer's class
    or that encoding. The decoder starts with the `decoder_start_token_id` of config.json or
    generation_config.json, or else with </s>.

    Raises:
      DataError: tokenizer.json is missing or unreadable, its ids have gaps, or it has no token for padding,
        end, start or unknown. The message names the file.
    """
    folder = Path(folder)
    file = folder / TOKENIZER_FILE
    if not file.is_file():
        raise DataError(
            f"{folder} has no {TOKENIZER_FILE}; make one where transformers is installed: "
            f"python -c \"from transformers import AutoTokenizer; F = '{folder}'; "
            'AutoTokenizer.from_pretrained(F).save_pretrained(F)"'
        )
    read_json(file)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare exceptions
        raise DataError(f"{file} is not a tokenizer: {error}") from None
    tokens = names(tokenizer, file)
    files = {name: _optional(folder / name) for name in (*ORIGINAL_FILES[1:], *_CONFIGS)}
    roles = {role: _name(files, role, tokens) for role in _USUAL}
    for role in ROLES:
        if roles[role] not in tokens:
            raise DataError(
                f"{file} has no token {roles[role]!r}, the {role} token of {folder}; "
                f"pad, eos, unk and bos are needed ({role}_token in tokenizer_config.json names it)"
            )
    if roles["mask"] not in tokens:
        roles["mask"] = None
    symbols = [name for name in _listed(files) if name in tokens]
    opening, language_opens, language = _frame(tokenizer, files, roles, symbols)
    info = {
        "type": "tokenizers",
        **roles,
        "start": _start(files, tokens) or roles["eos"],
        "opening": opening,
        "symbols": symbols,
        **({"language_opens": True} if language_opens else {}),
    }
    content = {name: (folder / name).read_bytes() for name in ORIGINAL_FILES if (folder / name).is_file()}
    content[INFO_FILE] = (json.dumps(info, indent=2, ensure_ascii=False) + "\n").encode()
    return ImportedTokenizer(content, language)


def _frame(
    tokenizer: Tokenizer, files: dict[str, dict], roles: dict[str, str], symbols: list[str]
) -> tuple[list[str], bool, str | None]:
    """(opening, language_opens, language): tokens that open every text, and where its language belongs."""
    language_opens = _language_opens(files)
    if language_opens is not None:
        language = files["tokenizer_config.json"].get("src_lang") or _DEFAULT_LANGUAGE
        return [], language_opens, language if tokenizer.token_to_id(language) is not None else None
    empty = tokenizer.encode("").tokens
    if roles["eos"] not in empty:
        return [], False, None
    end = empty.index(roles["eos"])
    added = tokenizer.get_added_tokens_decoder().values()
    others = {*roles.values(), *(_name(files, role, []) for role in ("cls", "sep"))}
    languages = {*symbols, *(token.content for token in added if token.special)} - others
    if end and empty[end - 1] in languages:
        return empty[: end - 1], True, empty[end - 1]
    last = empty[-1]
    return empty[:end], False, last if last in languages and len(empty) == end + 2 else None


def _language_opens(files: dict[str, dict]) -> bool | None:
    """Whether the tokenizer's class puts languages first (mBART-50) or last (mBART); None: neither class."""
    config = files["config.json"]
    name = files["tokenizer_config.json"].get("tokenizer_class") or config.get("tokenizer_class")
    if name is None and config.get("model_type") == "mbart":
        name = "MBartTokenizer"
    return {"MBart50Tokenizer": True, "MBartTokenizer": False}.get(str(name).removesuffix("Fast"))


_CONFIGS = ("config.json", "generation_config.json")


def _optional(file: Path) -> dict:
    return read_json(file) if file.is_file() else {}


def _name(files: dict[str, dict], role: str, tokens: list[str]) -> str:
    """The name of the token with the given role, from the files of the folder, or else as in BART."""
    for file in ORIGINAL_FILES[1:]:
        token = files[file].get(f"{role}_token")
        token = token.get("content") if isinstance(token, dict) else token
        if token is not None:
            return token
    for file in _CONFIGS:
        index = files[file].get(f"{role}_token_id")
        if isinstance(index, int) and 0 <= index < len(tokens):
            return tokens[index]
    return _USUAL.get(role, "")


def _listed(files: dict[str, dict]) -> list[str]:
    """Further special tokens in the files, such as mBART's languages, which tokenizer.json may not mark."""
    found = []
    for file in ORIGINAL_FILES[1:]:
        for field in ("additional_special_tokens", "extra_special_tokens"):
            tokens = files[file].get(field) or []
            tokens = tokens.values() if isinstance(tokens, dict) else tokens
            found += [token.get("content") if isinstance(token, dict) else token for token in tokens]
    return list(dict.fromkeys(found))


def _start(files: dict[str, dict], tokens: list[str]) -> str | None:
    """The decoder start token, if a file gives one."""
    for file in _CONFIGS:
        index = files[file].get("decoder_start_token_id")
        if index is None:
            continue
        if not isinstance(index, int) or not 0 <= index < len(tokens):
            raise DataError(f"{file}: decoder_start_token_id={index!r} is not an id in {TOKENIZER_FILE}")
        return tokens[index]
    return None
