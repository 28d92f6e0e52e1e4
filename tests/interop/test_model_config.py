"""config.json and ModelConfig: which fields are converted, and which values are rejected by name."""

import json

import numpy as np
import pytest

from denoise_jax.config import ModelConfig
from denoise_jax.errors import CheckpointError, ConfigError
from denoise_jax.interop.model_config import (
    check_special_ids,
    read_json,
    read_model_config,
    special_ids,
    table_rows,
    write_model_config,
)

GENERATION = {"decoder_start_token_id": 2}
IDS = np.array([1, 2, 3, 0, *range(4, 50)], np.int32)

# The config.json of an early bart-large, with many fields from fairseq.
OLD_BART = {
    "_num_labels": 3,
    "activation_dropout": 0.1,
    "activation_function": "gelu",
    "add_bias_logits": False,
    "add_final_layer_norm": False,
    "architectures": ["BartModel"],
    "attention_dropout": 0.1,
    "bos_token_id": 0,
    "classif_dropout": 0.1,
    "classifier_dropout": 0.0,
    "d_model": 1024,
    "decoder_attention_heads": 16,
    "decoder_ffn_dim": 4096,
    "decoder_layerdrop": 0.0,
    "decoder_layers": 12,
    "decoder_start_token_id": 2,
    "dropout": 0.1,
    "early_stopping": True,
    "encoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "encoder_layerdrop": 0.0,
    "encoder_layers": 12,
    "eos_token_id": 2,
    "forced_eos_token_id": 2,
    "gradient_checkpointing": False,
    "init_std": 0.02,
    "is_encoder_decoder": True,
    "max_position_embeddings": 1024,
    "model_type": "bart",
    "normalize_before": False,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "scale_embedding": False,
    "task_specific_params": {"summarization": {"length_penalty": 1.0, "num_beams": 4}},
    "use_cache": True,
    "vocab_size": 50265,
}


def test_published_bart_is_bart_large():
    found = read_model_config(OLD_BART, "float32")
    assert found == ModelConfig(
        embed_dim=1024,
        num_heads=16,
        ffn_dim=4096,
        num_encoder_layers=12,
        num_decoder_layers=12,
        attention_dropout=0.1,
        activation_dropout=0.1,
        compute_dtype="float32",
        scan_layers=False,
        remat="none",
    )
    assert table_rows(OLD_BART) == 50265


def test_published_mbart_is_pre_norm():
    old = {**OLD_BART, "model_type": "mbart", "architectures": ["MBartForConditionalGeneration"]}
    old |= {"normalize_before": True, "add_final_layer_norm": True, "normalize_embedding": True}
    found = read_model_config(
        {**old, "scale_embedding": True, "static_position_embeddings": False}, "bfloat16"
    )
    assert (found.norm_position, found.scale_embedding, found.compute_dtype) == ("pre", True, "bfloat16")


def test_missing_fields_have_the_defaults_of_transformers():
    found = read_model_config({"model_type": "bart"}, "float32")
    assert found == read_model_config(
        {**OLD_BART, "attention_dropout": 0.0, "activation_dropout": 0.0}, "float32"
    )


REFUSED = {
    "another model": ({"model_type": "t5"}, "model_type='t5' is not supported; choose from bart, mbart"),
    "no model": ({"model_type": None}, "model_type=None is not supported"),
    "another head": (
        {"architectures": ["BartForQuestionAnswering"]},
        "architectures='BartForQuestionAnswering' is not supported; choose from BartModel",
    ),
    "a class of the other": ({"architectures": ["MBartModel"]}, "architectures='MBartModel'"),
    "heads": (
        {"decoder_attention_heads": 8},
        "encoder_attention_heads=16 and decoder_attention_heads=8 differ",
    ),
    "widths": ({"encoder_ffn_dim": 2048}, "encoder_ffn_dim=2048 and decoder_ffn_dim=4096 differ"),
    "activation": (
        {"activation_function": "mish"},
        "activation_function='mish' is not supported; choose from gelu, ",
    ),
    "pre-norm BART": ({"normalize_before": True}, "normalize_before=True is not what model_type='bart'"),
    "final norm": ({"add_final_layer_norm": True}, "add_final_layer_norm=True"),
    "no embedding norm": ({"normalize_embedding": False}, "normalize_embedding=False"),
    "sinusoids": ({"static_position_embeddings": True}, "static_position_embeddings=True"),
    "decoder alone": ({"is_decoder": True}, "is_decoder=True"),
    "quantised": ({"quantization_config": {"bits": 4}}, "quantization_config"),
    "out of bounds": ({"dropout": 1.5}, "dropout: Input should be less than 1"),
    "no integer": ({"d_model": "wide"}, "d_model: "),
    "heads do not divide": ({"d_model": 1000}, "num_heads=16 does not divide embed_dim=1000"),
    "regression": (
        {"architectures": ["BartForSequenceClassification"], "num_labels": 1},
        "num_labels=1: regression is not supported",
    ),
}


@pytest.mark.parametrize(("values", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_unsupported_values_are_rejected_by_name(values, message):
    with pytest.raises(ConfigError) as raised:
        read_model_config({**OLD_BART, **values}, "float32")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"norm_position": "pre", "scale_embedding": True, "activation": "gelu_tanh"},
        {"tie_embeddings": False, "activation": "silu", "encoder_layer_drop": 0.2, "decoder_layer_drop": 0.1},
        {"num_classes": 5, "classifier_dropout": 0.3, "activation": "relu", "init_std": 0.1},
    ],
)
def test_an_exported_configuration_is_imported_unchanged(fields):
    model = ModelConfig(compute_dtype="float32", scan_layers=False, remat="none", **fields)
    written = write_model_config(model, IDS, GENERATION, "float32")
    assert read_model_config(json.loads(json.dumps(written)), "float32") == model
    assert table_rows(written) == len(IDS)
    check_special_ids(written, IDS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("norm", "rms"),
        ("positions", "rotary"),
        ("gated_ffn", True),
        ("use_bias", False),
        ("embedding_norm", False),
    ],
)
def test_what_neither_bart_nor_mbart_has_is_not_exported(field, value):
    with pytest.raises(ConfigError, match=f"model.{field}={value!r} cannot be exported"):
        write_model_config(ModelConfig(**{field: value}), IDS, GENERATION, "float32")


def test_special_ids_must_be_those_of_the_tokenizer():
    with pytest.raises(ConfigError, match="pad_token_id=5, but the tokenizer's is 1"):
        check_special_ids({"pad_token_id": 5}, IDS)
    check_special_ids({"eos_token_id": [2]}, IDS)
    assert special_ids(np.arange(50)) == {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "has no config.json"), ("{", "config.json is not JSON"), ("[]", "is not a JSON object")],
)
def test_a_missing_or_invalid_file_is_rejected(tmp_path, text, message):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read_json(tmp_path / "config.json")
