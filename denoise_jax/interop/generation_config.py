"""Converts between GenerationConfig and generation_config.json.

Hugging Face gives tokens by id and counts the decoder start token in lengths; we give tokens by name and do
not count it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from denoise_jax.config import GenerationConfig
from denoise_jax.errors import ConfigError
from denoise_jax.interop.model_config import CONFIG, read_json
from denoise_jax.validation import validated

GENERATION_CONFIG = "generation_config.json"

# Fields with the same name and meaning; null means the default. Transformers warns if the last two groups are
# set without beam search, or without sampling.
_SAME = ("num_beams", "num_return_sequences", "no_repeat_ngram_size", "do_sample")
_BEAMS = ("length_penalty", "early_stopping")
_SAMPLING = ("temperature", "top_k", "top_p")
_TOKENS = {"forced_bos": "forced_bos_token_id", "forced_eos": "forced_eos_token_id"}
_LENGTHS = ("max_length", "max_new_tokens", "min_length", "min_new_tokens")
_START = "decoder_start_token_id"
_TOP_K = 50  # default of Transformers

# Unsupported fields that change the output, with the values that turn them off.
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
# Fields of generation_config.json that do not change the output.
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
    folder: Path,
    token_name: Callable[[int], str],
    start_id: int,
    max_positions: int,
    language: str | None = None,
) -> tuple[GenerationConfig, list[str]]:
    """The generation settings of a Hugging Face folder, and one line for each that is not supported.

    They are read from generation_config.json, or from config.json, where older folders have the same fields.
    Without a `decoder_start_token_id` there, the decoder starts from <s>, as in Transformers.

    Args:
      token_name: maps a Hugging Face id to the token's name; KeyError for an id without a token.
      start_id: the Hugging Face id of the vocabulary's decoder start token.
      max_positions: upper bound of max_new_tokens.
      language: the language that the tokenizer adds to every text.

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
            f"{file}: do_sample with num_beams={fields['num_beams']} is not supported; beam search is used"
        )
        fields["do_sample"] = False
    if fields.get("do_sample"):
        fields.setdefault("top_k", _TOP_K)
    fields |= _lengths(values, max_positions)
    for ours, theirs in _TOKENS.items():
        if theirs in values:
            fields[ours] = _token(values[theirs], theirs, file, token_name)
    source, start = _start(values, own_file)
    if start is None:
        notes.append(f"{file}: neither {_START} nor bos_token_id is set; outputs start from the vocabulary's")
    elif start != start_id or language is not None:  # otherwise the language would start the decoder
        fields["start"] = _token(start, source, file, token_name)
    if language is not None:
        fields["language"] = language
    return validated(lambda: GenerationConfig(**fields), f"{file}: "), notes


def _start(values: Mapping, own_file: bool) -> tuple[str, object]:
    """The field that gives the id of the decoder start token, and its value, None if there is none.

    generation_config.json has no defaults; config.json has those of its model_type.
    """
    defaults = {} if own_file else {"bos_token_id": 0}
    if not own_file and values.get("model_type") != "mbart":
        defaults[_START] = 2
    values = {**defaults, **values}
    field = _START if _START in values else "bos_token_id"
    return field, values.get(field)


def _foreign(values: Mapping, file: str, own_file: bool) -> list[str]:
    """One line for each unsupported setting that would change the output."""
    known = {*_SAME, *_BEAMS, *_SAMPLING, *_LENGTHS, *_TOKENS.values(), _START, *_HARMLESS}
    # config.json also has fields that are unrelated to generation.
    names = [name for name in values if name not in known and (own_file or name in _FOREIGN)]
    return [
        f"{file}: {name}={values[name]!r} is not imported: there is no such setting"
        for name in names
        if values[name] not in _FOREIGN.get(name, ())
    ]


def _lengths(values: Mapping, max_positions: int) -> dict[str, int]:
    """max_new_tokens and min_new_tokens. max_length and min_length count the decoder start token too."""
    lengths = {}
    longest = values.get("max_new_tokens", values.get("max_length", 0) - 1)
    if longest > 0:
        lengths["max_new_tokens"] = min(longest, max_positions)
    lengths["min_new_tokens"] = values.get("min_new_tokens", max(values.get("min_length", 0) - 1, 0))
    return lengths


def _token(index, field: str, file: str, token_name: Callable[[int], str]) -> str:
    index = index[0] if isinstance(index, list) and len(index) == 1 else index
    if not isinstance(index, int):
        raise ConfigError(f"{file}: {field}={index!r}: give one token id")
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
    language_opens: bool = False,
) -> dict:
    """The contents of a generation_config.json.

    Args:
      token_id: maps a token's name to its Hugging Face id; ConfigError for a name not in the vocabulary.
      special_ids: the fields with the ids of padding, </s> and <s>.
      start_id: the Hugging Face id of the vocabulary's decoder start token.
      longest: max_new_tokens if `config.max_new_tokens` is None.
      language_opens: that of the vocabulary.
    """
    start, forced_bos = config.first_tokens(language_opens)
    tokens = {"forced_bos": forced_bos, "forced_eos": config.forced_eos}
    fields = [*_SAME, *(_BEAMS if config.num_beams > 1 else ()), *(_SAMPLING if config.do_sample else ())]
    return {
        **special_ids,
        _START: start_id if start is None else token_id(start),
        **{theirs: token_id(tokens[ours]) for ours, theirs in _TOKENS.items() if tokens[ours]},
        **{field: getattr(config, field) for field in fields},
        "max_length": (config.max_new_tokens or longest) + 1,
        "min_length": config.min_new_tokens + 1 if config.min_new_tokens else 0,
    }
