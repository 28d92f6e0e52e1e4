"""`generate`: from texts to texts, and which prompts and options it refuses."""

import pytest

from denoise_jax.errors import ConfigError, UserError
from denoise_jax.generation.generate import generate
from denoise_jax.generation.prompts import PromptError
from tests.generation.helpers import loaded_model


@pytest.fixture
def model(tiny_config, vocabulary_folder):
    return loaded_model(tiny_config, vocabulary_folder)


def test_options_override_those_of_the_run(model):
    done = []
    prompts = ["We <mask>.", "The <mask> of the state."]
    outputs = generate(
        model,
        prompts,
        num_beams=2,
        num_return_sequences=2,
        max_new_tokens=3,
        progress=lambda *counts: done.append(counts),
    )
    assert done == [(2, 2)]
    assert [len(of_prompt) for of_prompt in outputs] == [2, 2]
    best, second = outputs[0]
    assert isinstance(best.text, str) and isinstance(best.complete, bool)
    assert best.score >= second.score
    assert generate(model, [], max_new_tokens=3) == []


def test_prompts_need_masks_unless_allowed_or_the_model_is_finetuned(tiny_config, vocabulary_folder, model):
    with pytest.raises(PromptError, match="prompt 2 has no <mask>") as refused:
        generate(model, ["a <mask>", "no mask"], max_new_tokens=3)
    assert (refused.value.index, refused.value.problem.split(":")[0][:8]) == (1, "has no <")
    assert len(generate(model, ["no mask"], allow_no_mask=True, max_new_tokens=3)) == 1
    finetuned = loaded_model(tiny_config, vocabulary_folder, training={"init_from": "other"})
    assert len(generate(finetuned, ["no mask"], max_new_tokens=3)) == 1


def test_prompts_longer_than_the_training_texts_are_refused(tiny_config, vocabulary_folder, model):
    """A warm-started model may have been trained on longer texts: its limit is its positions."""
    text = "We must. " * 20 + "<mask>"
    with pytest.raises(PromptError, match="prompt 1 has .* tokens; the model takes at most 32"):
        generate(model, [text], max_new_tokens=3)
    finetuned = loaded_model(tiny_config, vocabulary_folder, training={"init_from": "other"})
    assert len(generate(finetuned, [text], max_new_tokens=3)) == 1


REFUSED = {
    "empty": (["a <mask>", " "], {}, PromptError, "prompt 2 is empty"),
    "batch size": (["a <mask>"], {"batch_size": 0}, UserError, "batch_size=0 must be at least 1"),
    "out of bounds": (
        ["a <mask>"],
        {"top_p": 2},
        ConfigError,
        "generation: top_p: [Ii]nput should be less",
    ),
    "unknown": (["a <mask>"], {"top_q": 2}, ConfigError, "generation: top_q: [Ee]xtra inputs are not"),
    "contradiction": (
        ["a <mask>"],
        {"do_sample": True, "num_beams": 2},
        ConfigError,
        "generation: do_sample needs num_beams=1, not 2",
    ),
}


@pytest.mark.parametrize(("prompts", "options", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_prompts_and_options_are_refused(model, prompts, options, error, message):
    with pytest.raises(error, match=message):
        generate(model, prompts, **options)
