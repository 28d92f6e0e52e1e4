"""A Hugging Face config.json of BART or mBART, and our ModelConfig.

The function that is computed is read as transformers reads it. Fields of older versions that it no longer
reads (normalize_before and the like) must agree with what it computes; a value that would be another
function is refused.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from denoise_jax.config import ModelConfig
from denoise_jax.errors import CheckpointError, ConfigError

CONFIG = "config.json"

# norm_position here, and the beginning of the names of their classes.
_TYPES = {"bart": ("post", "Bart"), "mbart": ("pre", "MBart")}
_MODEL, _GENERATION, _CLASSIFICATION = "Model", "ForConditionalGeneration", "ForSequenceClassification"

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}

# Our field → their field, and the value where a file has none: that of transformers.
_FIELDS = {
    "embed_dim": ("d_model", 1024),
    "num_encoder_layers": ("encoder_layers", 12),
    "num_decoder_layers": ("decoder_layers", 12),
    "max_positions": ("max_position_embeddings", 1024),
    "scale_embedding": ("scale_embedding", False),
    "tie_embeddings": ("tie_word_embeddings", True),
    "dropout": ("dropout", 0.1),
    "attention_dropout": ("attention_dropout", 0.0),
    "activation_dropout": ("activation_dropout", 0.0),
    "encoder_layer_drop": ("encoder_layerdrop", 0.0),
    "decoder_layer_drop": ("decoder_layerdrop", 0.0),
    "classifier_dropout": ("classifier_dropout", 0.0),
    "init_std": ("init_std", 0.02),
}
# Fields that they have once for each side, and we once.
_PAIRS = {"num_heads": ("attention_heads", 16), "ffn_dim": ("ffn_dim", 4096)}
_VOCAB_SIZE = 50265
# pad, </s>, <s>: the places of these in our order of ids, and the defaults of transformers.
_SPECIAL = {"pad_token_id": (0, 1), "eos_token_id": (1, 2), "bos_token_id": (3, 0)}

# What both architectures compute, whatever our other fields say.
_FIXED = {
    "positions": "learned",
    "gated_ffn": False,
    "use_bias": True,
    "norm": "layer",
    "embedding_norm": True,
}


def read_json(file: Path) -> dict:
    """A JSON object from a file; CheckpointError if there is none."""
    try:
        values = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{file.parent} has no {file.name}; give a model's folder") from None
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{file} is not a JSON object")
    return values


def read_model_config(values: Mapping, compute_dtype: str) -> ModelConfig:
    """ModelConfig of a config.json.

    Raises:
      ConfigError: another architecture, or a value that the model here has no place for.
    """
    model_type, head = _architecture(values)
    norm_position = _TYPES[model_type][0]
    _check_old_fields(values, model_type)
    fields = {ours: _value(values, theirs, default) for ours, (theirs, default) in _FIELDS.items()}
    for ours, (theirs, default) in _PAIRS.items():
        sides = [_value(values, f"{side}_{theirs}", default) for side in ("encoder", "decoder")]
        if sides[0] != sides[1]:
            raise ConfigError(
                f"{CONFIG}: encoder_{theirs}={sides[0]} and decoder_{theirs}={sides[1]} differ; here "
                f"both sides have one {ours}"
            )
        fields[ours] = sides[0]
    activation = _value(values, "activation_function", "gelu")
    if activation not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise ConfigError(f"{CONFIG}: activation_function={activation!r} is not known; {known} are")
    if head == _CLASSIFICATION:
        fields["num_classes"] = _num_labels(values)
    try:
        return ModelConfig(
            **fields,
            **_FIXED,
            activation=_ACTIVATIONS[activation],
            norm_position=norm_position,
            compute_dtype=compute_dtype,
            scan_layers=False,
            remat="none",
        )
    except ValidationError as error:
        first = error.errors()[0]
        ours = str(first["loc"][0]) if first["loc"] else ""
        theirs = _FIELDS.get(ours, (ours,))[0]
        raise ConfigError(f"{CONFIG}: {theirs}: {first['msg'].removeprefix('Value error, ')}") from None


def _architecture(values: Mapping) -> tuple[str, str]:
    """(model_type, head) of a config.json: which class of transformers the folder is for."""
    model_type = values.get("model_type")
    if model_type not in _TYPES:
        raise ConfigError(f"{CONFIG}: model_type={model_type!r} is not supported; {' and '.join(_TYPES)} are")
    beginning = _TYPES[model_type][1]
    known = [beginning + head for head in (_MODEL, _GENERATION, _CLASSIFICATION)]
    for name in values.get("architectures") or [known[1]]:
        if name not in known:
            raise ConfigError(f"{CONFIG}: architectures={name!r} is not supported; {', '.join(known)} are")
        return model_type, name.removeprefix(beginning)
    raise AssertionError


def _check_old_fields(values: Mapping, model_type: str) -> None:
    """Refuses values of fields that transformers reads no more, or never as this, but that mean something."""
    pre = _TYPES[model_type][0] == "pre"
    computed = {
        "normalize_before": pre,
        "add_final_layer_norm": pre,
        "normalize_embedding": True,
        "static_position_embeddings": False,
        "extra_pos_embeddings": 2,
        "do_blenderbot_90_layernorm": False,
        "tie_encoder_decoder": False,
        "is_encoder_decoder": True,
        "is_decoder": False,
    }
    for field, value in computed.items():
        found = values.get(field)
        if found is not None and found != value:
            raise ConfigError(
                f"{CONFIG}: {field}={found!r} is not what model_type={model_type!r} computes ({value!r})"
            )
    if values.get("quantization_config"):
        raise ConfigError(f"{CONFIG}: quantization_config: quantised weights are not read")


def _num_labels(values: Mapping) -> int:
    labels = values.get("id2label")
    number = len(labels) if labels else _value(values, "num_labels", 3)
    if number < 2:
        raise ConfigError(f"{CONFIG}: num_labels={number}: a head here tells classes apart, and needs two")
    return number


def label_notes(values: Mapping) -> list[str]:
    """A line on names of classes, which have no place in our configuration; none where they say nothing."""
    names = values.get("id2label") or {}
    if _architecture(values)[1] != _CLASSIFICATION or all(
        name.startswith("LABEL_") for name in names.values()
    ):
        return []
    told = ", ".join(f"{number} {name}" for number, name in names.items())
    return [f"{CONFIG}: id2label is not taken over; classes are numbers here: {told}"]


def _value(values: Mapping, field: str, default):
    found = values.get(field)
    return default if found is None else found


def table_rows(values: Mapping) -> int:
    """vocab_size: rows of the token table."""
    return _value(values, "vocab_size", _VOCAB_SIZE)


def check_special_ids(values: Mapping, hf_ids: np.ndarray, file: str = CONFIG) -> None:
    """ConfigError where the ids of padding, </s> or <s> are not those of the tokenizer."""
    for field, (place, default) in _SPECIAL.items():
        found = _value(values, field, default)
        found = found[0] if isinstance(found, list) and len(found) == 1 else found
        if found != hf_ids[place]:
            raise ConfigError(f"{file}: {field}={found}, but the tokenizer's is {hf_ids[place]}")


def special_ids(hf_ids: np.ndarray) -> dict[str, int]:
    """Their fields for the ids of padding, </s> and <s>."""
    return {field: int(hf_ids[place]) for field, (place, _) in _SPECIAL.items()}


def write_model_config(config: ModelConfig, hf_ids: np.ndarray, generation: Mapping, dtype: str) -> dict:
    """A config.json for transformers.

    Args:
      hf_ids: int [len(vocabulary)]; their id of each of ours.
      generation: what their generation_config.json holds; they expect some of it here too.
      dtype: of the tensors in the folder.

    Raises:
      ConfigError: the model has what neither BART nor mBART has; the field is named.
    """
    for field, value in _FIXED.items():
        found = getattr(config, field)
        if found != value:
            raise ConfigError(
                f"model.{field}={found!r} cannot be exported: BART and mBART of transformers have {value!r}"
            )
    model_type = next(name for name, (position, _) in _TYPES.items() if position == config.norm_position)
    head = _GENERATION if config.num_classes is None else _CLASSIFICATION
    activations = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
    values = {
        "architectures": [_TYPES[model_type][1] + head],
        "model_type": model_type,
        "is_encoder_decoder": True,
        "vocab_size": len(hf_ids),
        **{theirs: getattr(config, ours) for ours, (theirs, _) in _FIELDS.items()},
        **{
            f"{side}_{theirs}": getattr(config, ours)
            for ours, (theirs, _) in _PAIRS.items()
            for side in ("encoder", "decoder")
        },
        "activation_function": activations[config.activation],
        **special_ids(hf_ids),
        "decoder_start_token_id": generation["decoder_start_token_id"],
        # Given as null too, since transformers would otherwise take 2.
        "forced_eos_token_id": generation.get("forced_eos_token_id"),
        "is_decoder": False,
        "dtype": dtype,
        "use_cache": True,
    }
    if config.num_classes is not None:
        labels = [f"LABEL_{number}" for number in range(config.num_classes)]
        values["id2label"] = {str(number): label for number, label in enumerate(labels)}
        values["label2id"] = {label: number for number, label in enumerate(labels)}
    return values
