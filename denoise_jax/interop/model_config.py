"""Converts between ModelConfig and the config.json of a Hugging Face BART or mBART.

config.json is interpreted as current Transformers interprets it. Fields of older versions that Transformers
ignores today (such as normalize_before) must agree with what it computes; other values are rejected.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from denoise_jax.config import ModelConfig
from denoise_jax.errors import CheckpointError, ConfigError

CONFIG = "config.json"

# model_type → our norm_position, and the prefix of the class names in Transformers.
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

# Our field → their field and its default in Transformers.
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
# Fields that they have for encoder and decoder separately, and we have once.
_PAIRS = {"num_heads": ("attention_heads", 16), "ffn_dim": ("ffn_dim", 4096)}
_VOCAB_SIZE = 50265
# pad, </s> and <s>: our id, and the default id in Transformers.
_SPECIAL = {"pad_token_id": (0, 1), "eos_token_id": (1, 2), "bos_token_id": (3, 0)}

# Fields of ours that have the same value in every BART and mBART.
_FIXED = {
    "positions": "learned",
    "gated_ffn": False,
    "use_bias": True,
    "norm": "layer",
    "embedding_norm": True,
}


def read_json(file: Path) -> dict:
    """Reads a JSON object; CheckpointError if the file is missing or contains something else."""
    try:
        values = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{file.parent} has no {file.name}; give the folder of a model") from None
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{file} is not a JSON object")
    return values


def read_model_config(values: Mapping, compute_dtype: str) -> ModelConfig:
    """The ModelConfig that `values`, the contents of a config.json, describe.

    Raises:
      ConfigError: an unsupported architecture, or a value that our model cannot represent.
    """
    model_type, head = _architecture(values)
    norm_position = _TYPES[model_type][0]
    _check_old_fields(values, model_type)
    fields = {ours: _value(values, theirs, default) for ours, (theirs, default) in _FIELDS.items()}
    for ours, (theirs, default) in _PAIRS.items():
        sides = [_value(values, f"{side}_{theirs}", default) for side in ("encoder", "decoder")]
        if sides[0] != sides[1]:
            raise ConfigError(
                f"{CONFIG}: encoder_{theirs}={sides[0]} and decoder_{theirs}={sides[1]} differ; our "
                f"model has one {ours} for both"
            )
        fields[ours] = sides[0]
    activation = _value(values, "activation_function", "gelu")
    if activation not in _ACTIVATIONS:
        raise _unsupported("activation_function", activation, _ACTIVATIONS)
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
    """(model_type, head): the class in Transformers that the folder is for."""
    model_type = values.get("model_type")
    if model_type not in _TYPES:
        raise _unsupported("model_type", model_type, _TYPES)
    prefix = _TYPES[model_type][1]
    known = [prefix + head for head in (_MODEL, _GENERATION, _CLASSIFICATION)]
    name, *_ = values.get("architectures") or [known[1]]
    if name not in known:
        raise _unsupported("architectures", name, known)
    return model_type, name.removeprefix(prefix)


def _unsupported(field: str, value: object, supported: Iterable[str]) -> ConfigError:
    return ConfigError(f"{CONFIG}: {field}={value!r} is not supported; choose from {', '.join(supported)}")


def _check_old_fields(values: Mapping, model_type: str) -> None:
    """ConfigError if a field that Transformers ignores contradicts what it computes."""
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
        raise ConfigError(f"{CONFIG}: quantization_config: quantised weights are not supported")


def _num_labels(values: Mapping) -> int:
    labels = values.get("id2label")
    count = len(labels) if labels else _value(values, "num_labels", 3)
    if count < 2:
        raise ConfigError(f"{CONFIG}: num_labels={count}: regression is not supported; 2 or more classes are")
    return count


def label_notes(values: Mapping) -> list[str]:
    """A line that lists the names of the classes, which are not imported; none for LABEL_0, LABEL_1, ..."""
    names = values.get("id2label") or {}
    if _architecture(values)[1] != _CLASSIFICATION or all(
        name.startswith("LABEL_") for name in names.values()
    ):
        return []
    listed = ", ".join(f"{index} {name}" for index, name in names.items())
    return [f"{CONFIG}: id2label is not imported; classes are numbered: {listed}"]


def _value(values: Mapping, field: str, default):
    found = values.get(field)
    return default if found is None else found


def table_rows(values: Mapping) -> int:
    """vocab_size: the number of rows of the token embedding."""
    return _value(values, "vocab_size", _VOCAB_SIZE)


def check_special_ids(values: Mapping, hf_ids: np.ndarray, file: str = CONFIG) -> None:
    """ConfigError unless the ids of padding, </s> and <s> are those of the tokenizer."""
    for field, (index, default) in _SPECIAL.items():
        found = _value(values, field, default)
        found = found[0] if isinstance(found, list) and len(found) == 1 else found
        if found != hf_ids[index]:
            raise ConfigError(f"{file}: {field}={found}, but the tokenizer's is {hf_ids[index]}")


def special_ids(hf_ids: np.ndarray) -> dict[str, int]:
    """The fields of config.json with the Hugging Face ids of padding, </s> and <s>."""
    return {field: int(hf_ids[index]) for field, (index, _) in _SPECIAL.items()}


def export_problem(config: ModelConfig) -> str | None:
    """Why a model of this shape cannot be exported; None if it can."""
    theirs = {field: value for field, value in _FIXED.items() if getattr(config, field) != value}
    if not theirs:
        return None
    own = ", ".join(f"model.{field}={getattr(config, field)!r}" for field in theirs)
    supported = ", ".join(f"{field}={value!r}" for field, value in theirs.items())
    return f"{own} cannot be exported: BART and mBART in Transformers have {supported}"


def write_model_config(config: ModelConfig, hf_ids: np.ndarray, generation: Mapping, dtype: str) -> dict:
    """The contents of a config.json for Transformers.

    Args:
      hf_ids: int [vocab_size], the Hugging Face id of each of our ids.
      generation: the contents of generation_config.json; Transformers reads some of them here.
      dtype: dtype of the exported tensors.

    Raises:
      ConfigError: a field, which is named, has a value that neither BART nor mBART has.
    """
    if problem := export_problem(config):
        raise ConfigError(problem)
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
        # Written even if null: the default of Transformers is 2.
        "forced_eos_token_id": generation.get("forced_eos_token_id"),
        "is_decoder": False,
        "dtype": dtype,
        "use_cache": True,
    }
    if config.num_classes is not None:
        labels = [f"LABEL_{index}" for index in range(config.num_classes)]
        values["id2label"] = {str(index): label for index, label in enumerate(labels)}
        values["label2id"] = {label: index for index, label in enumerate(labels)}
    return values
