"""Prompts of many lengths: batches, meshes, order, names of tokens."""

import numpy as np
import pytest

from denoise_jax.config import GenerationConfig
from denoise_jax.errors import UserError
from denoise_jax.generation.prompts import encode_prompt, generate_ids, resolve_options
from denoise_jax.vocabulary.base import EOS_ID
from tests.generation.helpers import loaded_model

RANDOM = np.random.default_rng(2)
PROMPTS = [RANDOM.integers(60, 500, length).tolist() for length in (5, 30, 9, 17, 2, 12, 40, 11, 3, 20, 7)]
OPTIONS = {
    "beams": GenerationConfig(max_new_tokens=6, num_beams=3, num_return_sequences=2),
    "samples": GenerationConfig(max_new_tokens=6, do_sample=True, num_return_sequences=3, seed=5),
}


@pytest.mark.parametrize(
    "options",
    [pytest.param(v, id=k, marks=[pytest.mark.slow] * (k == "samples")) for k, v in OPTIONS.items()],
)
def test_outputs_do_not_depend_on_batches_or_the_mesh(tiny_config, vocabulary_folder, options):
    done = []
    model = loaded_model(tiny_config, vocabulary_folder)
    expected = generate_ids(model, PROMPTS, options, progress=lambda *counts: done.append(counts))
    assert done == [(len(PROMPTS), len(PROMPTS))]
    assert [len(outputs) for outputs in expected] == [options.num_return_sequences] * len(PROMPTS)
    sharded = loaded_model(tiny_config, vocabulary_folder, devices=4, fsdp=2)
    batched = generate_ids(sharded, PROMPTS, options, batch_size=6)  # rounded up to 8 rows
    alone = generate_ids(model, PROMPTS[:1], options)
    for got, wanted in zip([*batched, *alone], [*expected, expected[0]], strict=True):
        assert [output.ids for output in got] == [output.ids for output in wanted]
        assert [output.complete for output in got] == [output.complete for output in wanted]
        np.testing.assert_allclose([o.score for o in got], [o.score for o in wanted], rtol=1e-4)
    assert len({outputs[0].ids for outputs in expected}) > len(PROMPTS) // 2, "outputs depend on prompts"
    for outputs in expected:
        assert all(output.complete == (output.ids[-1] == EOS_ID) for output in outputs)


def test_names_of_tokens_are_resolved_to_ids(tiny_config, vocabulary_folder):
    model = loaded_model(tiny_config, vocabulary_folder)
    vocabulary, language = model.vocabulary, model.vocabulary.symbol_id("en_XX")
    options = GenerationConfig(language="en_XX", forced_bos="<mask>", forced_eos="</s>", max_new_tokens=5)
    resolved = resolve_options(model, options)
    assert (resolved.start_id, resolved.end_id) == (language, EOS_ID)
    assert (resolved.forced_bos_id, resolved.forced_eos_id) == (vocabulary.mask_id, EOS_ID)
    assert resolve_options(model, GenerationConfig(start="<s>", language="en_XX")).start_id == 3
    default = resolve_options(model, GenerationConfig())
    assert default.start_id == vocabulary.start_id
    assert default.max_new_tokens == model.config.data.max_chunk_length
    ids = encode_prompt(vocabulary, "A <mask>.", options)
    assert ids[-2:] == [EOS_ID, language]
    assert vocabulary.mask_id in ids
    ((output,),) = generate_ids(model, [ids], options)
    assert output.ids[0] == vocabulary.mask_id
    assert output.complete


REFUSED = {
    "unknown token": ({"forced_bos": "xx"}, "generation.forced_bos='xx' is not in the vocabulary; "),
    "unknown language": (
        {"language": "en_YY"},
        "language='en_YY' is not in the vocabulary; did you mean en_XX",
    ),
    "too long": ({"max_new_tokens": 10_000}, "generation.max_new_tokens=10000 is above model.max_positions="),
    "too short": ({"min_new_tokens": 9, "max_new_tokens": 8}, "min_new_tokens=9 is above max_new_tokens=8"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_options_that_do_not_fit_the_model_are_refused(tiny_config, vocabulary_folder, options, message):
    with pytest.raises(UserError, match=message):
        resolve_options(loaded_model(tiny_config, vocabulary_folder), GenerationConfig(**options))


def test_a_classification_model_generates_no_text(tiny_config, vocabulary_folder):
    model = loaded_model(tiny_config, vocabulary_folder, model={"num_classes": 3})
    with pytest.raises(UserError, match="model.num_classes=3: this model predicts classes"):
        resolve_options(model, GenerationConfig())


def test_empty_and_overlong_prompts_are_refused(tiny_config, vocabulary_folder):
    model = loaded_model(tiny_config, vocabulary_folder)
    limit = model.config.model.max_positions
    with pytest.raises(UserError, match="prompt 2 has 0 tokens"):
        generate_ids(model, [[5], []], GenerationConfig())
    with pytest.raises(UserError, match=f"prompt 1 has {limit + 1} tokens; the model takes 1 to {limit} "):
        generate_ids(model, [[5] * (limit + 1)], GenerationConfig())
    assert generate_ids(model, [], GenerationConfig()) == []
