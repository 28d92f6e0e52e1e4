"""Generation settings of Hugging Face, and ours. Theirs name tokens by ids and count the decoder's start."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError

from denoise_jax.config import GenerationConfig
from denoise_jax.errors import ConfigError
from denoise_jax.interop.model_config import CONFIG, read_json

GENERATION_CONFIG = "generation_config.json"

# Fields of the same name and meaning; null in a file is the default. Of the last two groups transformers
# warns where there are no beams, or no sampling.
_SAME = ("num_beams", "num_return_sequences", "no_repeat_ngram_size", "do_sample")
_BEAMS = ("length_penalty", "early_stopping")
_SAMPLING = ("temperature", "top_k", "top_p")
_TOKENS = {"forced_bos": "forced_bos_token_id", "forced_eos": "forced_eos_token_id"}
_LENGTHS = ("max_length", "max_new_tokens", "min_length", "min_new_tokens")
_START = "decoder_start_token_id"
_TOP_K = 50  # what transformers samples from where a file does not say

# Fields that change what is written and that we have not, with the values that change nothing.
_FOREIGN = {
    "repetition_penalty": (1.0,),
    "encoder_repetition_penalty": (1.0,),
    "encoder_no_repeat_ngram_size": (0,),
    "diversity_penalty": (0.0,),
    "num_beam_groups": (1,),
    "typical_p": (1.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "min_p": (0.0,),
    "top_h": (),
    "penalty_alpha": (),
    "guidance_scale": (1.0,),
    "bad_words_ids": ([],),
    "force_words_ids": ([],),
    "constraints": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "sequence_bias": ({}, []),
    "exponential_decay_length_penalty": (),
    "stop_strings": ([], ""),
    "max_time": (),
    "renormalize_logits": (False,),
    "remove_invalid_values": (False,),
    "token_healing": (False,),
    "dola_layers": (),
    "watermarking_config": (),
    "prompt_lookup_num_tokens": (),
    "force_bos_token_to_be_generated": (False,),
}
# Fields of a generation_config.json that do not change what is written.
_HARMLESS = (
    "_from_model_config",
    "transformers_version",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "use_cache",
    "cache_implementation",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "return_dict_in_generate",
    "low_memory",
)


def read_generation_config(
    folder: Path, token_name: Callable[[int], str], start_id: int, max_positions: int
) -> tuple[GenerationConfig, list[str]]:
    """Settings of a Hugging Face folder, and a line on each that has no place here.

    Read from generation_config.json; older folders have the same fields in config.json.

    Args:
      token_name: name of one of their ids; KeyError for an id that the tokenizer lacks.
      start_id: their id of the token that starts the decoder unless a file says otherwise.
      max_positions: outputs are cut there.

    Raises:
      ConfigError: a value out of bounds, or an id without a token.
    """
    own_file = (folder / GENERATION_CONFIG).exists()
    file = GENERATION_CONFIG if own_file else CONFIG
    values = {field: value for field, value in read_json(folder / file).items() if value is not None}
    notes = _foreign(values, file, own_file)
    fields = {field: values[field] for field in (*_SAME, *_BEAMS, *_SAMPLING) if field in values}
    if fields.get("do_sample") and fields.get("num_beams", 1) > 1:
        notes.append(
            f"{file}: do_sample with num_beams={fields['num_beams']} is not taken over: beams, no sampling"
        )
        fields["do_sample"] = False
    if fields.get("do_sample"):
        fields.setdefault("top_k", _TOP_K)
    fields |= _lengths(values, max_positions)
    for ours, theirs in {**_TOKENS, "start": _START}.items():
        if theirs in values and not (ours == "start" and values[theirs] == start_id):
            fields[ours] = _token(values[theirs], theirs, file, token_name)
    try:
        return GenerationConfig(**fields), notes
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][:1])) or "generation"
        raise ConfigError(f"{file}: {where}: {first['msg'].removeprefix('Value error, ')}") from None


def _foreign(values: Mapping, file: str, own_file: bool) -> list[str]:
    """A line on each setting that would change what is written, and is not known here."""
    known = {*_SAME, *_BEAMS, *_SAMPLING, *_LENGTHS, *_TOKENS.values(), _START, *_HARMLESS}
    # A config.json is full of other things; there only settings of generation are looked for.
    names = [name for name in values if name not in known and (own_file or name in _FOREIGN)]
    return [
        f"{file}: {name}={values[name]!r} is not taken over: generation here has no such setting"
        for name in names
        if values[name] not in _FOREIGN.get(name, ())
    ]


def _lengths(values: Mapping, max_positions: int) -> dict[str, int]:
    """max_new_tokens and min_new_tokens. Lengths of theirs count the start of the decoder, ours do not."""
    lengths = {}
    longest = values.get("max_new_tokens", values.get("max_length", 0) - 1)
    if longest > 0:
        lengths["max_new_tokens"] = min(longest, max_positions)
    lengths["min_new_tokens"] = values.get("min_new_tokens", max(values.get("min_length", 0) - 1, 0))
    return lengths


def _token(index, field: str, file: str, token_name: Callable[[int], str]) -> str:
    index = index[0] if isinstance(index, list) and len(index) == 1 else index
    if not isinstance(index, int):
        raise ConfigError(f"{file}: {field}={index!r}: one token is needed")
    try:
        return token_name(index)
    except KeyError:
        raise ConfigError(f"{file}: {field}={index}: the tokenizer has no such token") from None


def write_generation_config(
    config: GenerationConfig,
    token_id: Callable[[str], int],
    special_ids: Mapping,
    start_id: int,
    longest: int,
) -> dict:
    """A generation_config.json.

    Args:
      token_id: their id of a token's name; ConfigError for a name that the vocabulary lacks.
      special_ids: fields for the ids of padding, </s> and <s>.
      start_id: their id of the vocabulary's own start of the decoder.
      longest: tokens that are written where `config.max_new_tokens` is None.
    """
    start = config.start or config.language
    fields = [*_SAME, *(_BEAMS if config.num_beams > 1 else ()), *(_SAMPLING if config.do_sample else ())]
    return {
        **special_ids,
        _START: start_id if start is None else token_id(start),
        **{theirs: token_id(name) for ours, theirs in _TOKENS.items() if (name := getattr(config, ours))},
        **{field: getattr(config, field) for field in fields},
        "max_length": (config.max_new_tokens or longest) + 1,
        "min_length": config.min_new_tokens + 1 if config.min_new_tokens else 0,
    }
