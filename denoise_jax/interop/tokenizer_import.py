"""The tokenizer in a folder of Hugging Face's as a vocabulary of ours: what its special tokens are for."""

import json
from pathlib import Path

from tokenizers import Tokenizer

from denoise_jax.errors import DataError
from denoise_jax.vocabulary.base import INFO_FILE, TOKENIZER_FILE
from denoise_jax.vocabulary.tokenizers import ORIGINAL_FILES, ROLES, names, read_json

# What BART and mBART call them; folders that say nothing of it mean these.
_USUAL = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>", "bos": "<s>", "mask": "<mask>"}


def from_huggingface(folder: str | Path) -> dict[str, bytes]:
    """The files of a vocabulary folder, name → content, from a folder of Hugging Face's.

    Its tokenizer files stay as they are, to the byte, and `vocabulary.json` says what each special token is
    for: by the folder's tokenizer_config.json, special_tokens_map.json or config.json, or by BART's names.
    The tokens before the first </s> of the empty text open every text. The decoder starts with config.json's
    or generation_config.json's `decoder_start_token_id`, or with </s>.

    Raises:
      DataError, naming the file: no tokenizer.json, or none that can be read; ids with gaps; no token for
      padding, end, start or unknown.
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
    except Exception as error:  # the library raises nothing more particular
        raise DataError(f"{file} is not a tokenizer: {error}") from None
    tokens = names(tokenizer, file)
    said = {name: _optional(folder / name) for name in (*ORIGINAL_FILES[1:], *_CONFIGS)}
    roles = {role: _name(said, role, tokens) for role in _USUAL}
    for role in ROLES:
        if roles[role] not in tokens:
            raise DataError(
                f"{file} has no token {roles[role]!r}, which {folder} means by its {role} token; "
                f"pad, eos, unk and bos are needed ({role}_token in tokenizer_config.json names it)"
            )
    if roles["mask"] not in tokens:
        roles["mask"] = None
    empty = tokenizer.encode("").tokens
    opening = empty[: empty.index(roles["eos"])] if roles["eos"] in empty else []
    info = {
        "type": "tokenizers",
        **roles,
        "start": _start(said, tokens) or roles["eos"],
        "opening": opening,
        "symbols": [name for name in _listed(said) if name in tokens],
    }
    content = {name: (folder / name).read_bytes() for name in ORIGINAL_FILES if (folder / name).is_file()}
    return content | {INFO_FILE: (json.dumps(info, indent=2, ensure_ascii=False) + "\n").encode()}


_CONFIGS = ("config.json", "generation_config.json")


def _optional(file: Path) -> dict:
    return read_json(file) if file.is_file() else {}


def _name(said: dict[str, dict], role: str, tokens: list[str]) -> str:
    """The name of the token that is `role`, as the folder's files say, or as BART's would."""
    for file in ORIGINAL_FILES[1:]:
        token = said[file].get(f"{role}_token")
        token = token.get("content") if isinstance(token, dict) else token
        if token is not None:
            return token
    for file in _CONFIGS:
        index = said[file].get(f"{role}_token_id")
        if isinstance(index, int) and 0 <= index < len(tokens):
            return tokens[index]
    return _USUAL[role]


def _listed(said: dict[str, dict]) -> list[str]:
    """Further special tokens that the files list: mBART's languages, which tokenizer.json may leave out."""
    found = []
    for file in ORIGINAL_FILES[1:]:
        for field in ("additional_special_tokens", "extra_special_tokens"):
            tokens = said[file].get(field) or []
            tokens = tokens.values() if isinstance(tokens, dict) else tokens
            found += [token.get("content") if isinstance(token, dict) else token for token in tokens]
    return list(dict.fromkeys(found))


def _start(said: dict[str, dict], tokens: list[str]) -> str | None:
    """The token that starts the decoder, where a file says it."""
    for file in _CONFIGS:
        index = said[file].get("decoder_start_token_id")
        if index is None:
            continue
        if not isinstance(index, int) or not 0 <= index < len(tokens):
            raise DataError(f"{file}: decoder_start_token_id={index!r} is no id of {TOKENIZER_FILE}'s")
        return tokens[index]
    return None
