"""Generation from prompts of many lengths: order, names of tokens, batches and meshes."""

import jax
import numpy as np
import pytest

from denoise_jax.config import Config, GenerationConfig, ParallelConfig
from denoise_jax.errors import UserError
from denoise_jax.generation import prompts
from denoise_jax.generation.fill import denoises, fill
from denoise_jax.model.transformer import init_params
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.parallel.sharding import state_shardings
from denoise_jax.runs.load_model import LoadedModel
from denoise_jax.vocabulary.base import EOS_ID
from denoise_jax.vocabulary.load import load_vocabulary


@pytest.fixture(scope="module")
def make_model(tiny_config, vocabulary_folder):
    """make_model(fsdp=1, **sections): a model with random, lively parameters, on all devices."""
    vocabulary = load_vocabulary(vocabulary_folder)

    def make(fsdp: int = 1, **sections) -> LoadedModel:
        values = tiny_config.model_dump()
        for section, fields in {"model": {"init_std": 0.3, "compute_dtype": "float32"}, **sections}.items():
            values[section] = {**values[section], **fields}
        config = Config.model_validate(values)
        mesh = make_mesh(ParallelConfig(fsdp=fsdp))
        params = init_params(config.model, jax.random.key(1))
        layout = state_shardings({"params": params}, mesh, shard_moments=False)["params"]
        return LoadedModel(config, vocabulary, jax.device_put(params, layout), 1, mesh)

    return make


@pytest.fixture(scope="module")
def prompts():
    random = np.random.default_rng(2)
    return [random.integers(60, 500, length).tolist() for length in (5, 30, 9, 17, 2, 12, 40, 11, 3, 20, 7)]


OPTIONS = {
    "beams": GenerationConfig(max_new_tokens=6, num_beams=3, num_return_sequences=2),
    "samples": GenerationConfig(max_new_tokens=6, do_sample=True, num_return_sequences=3, seed=5),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_batches_and_meshes_change_nothing(make_model, prompts, options):
    done = []
    expected = prompts.generate(make_model(), prompts, options, progress=done.append)
    assert done == [len(prompts)]
    assert [len(found) for found in expected] == [options.num_return_sequences] * len(prompts)
    others = prompts.generate(make_model(fsdp=4), prompts, options, batch_size=8)
    alone = prompts.generate(make_model(fsdp=2), prompts[:1], options)
    for got, wanted in zip([*others, *alone], [*expected, expected[0]], strict=True):
        assert [output.ids for output in got] == [output.ids for output in wanted]
        assert [output.complete for output in got] == [output.complete for output in wanted]
        np.testing.assert_allclose([o.score for o in got], [o.score for o in wanted], rtol=1e-4)
    assert len({found[0].ids for found in expected}) > len(prompts) // 2, "prompts that do not matter"
    for found in expected:
        assert all(output.complete == (output.ids[-1] == EOS_ID) for output in found)


def test_tokens_are_named(make_model):
    model = make_model()
    vocabulary, language = model.vocabulary, model.vocabulary.symbol_id("en_XX")
    options = GenerationConfig(language="en_XX", forced_bos="<mask>", forced_eos="</s>", max_new_tokens=5)
    search = prompts.resolve(model, options)
    assert (search.start_id, search.end_id) == (language, EOS_ID)
    assert (search.forced_bos_id, search.forced_eos_id) == (vocabulary.mask_id, EOS_ID)
    assert prompts.resolve(model, GenerationConfig(start="<s>", language="en_XX")).start_id == 3
    assert prompts.resolve(model, GenerationConfig()).start_id == vocabulary.start_id
    assert prompts.resolve(model, GenerationConfig()).max_new_tokens == model.config.data.max_chunk_length
    ids = prompts.encode_prompt(vocabulary, "A <mask>.", options)
    assert ids[-2:] == [EOS_ID, language]
    assert vocabulary.mask_id in ids
    (found,) = prompts.generate(model, [ids], options)
    assert found[0].ids[0] == vocabulary.mask_id
    assert found[0].complete


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"forced_bos": "xx"}, "generation.forced_bos='xx' is no token of the vocabulary; "),
        (
            {"language": "en_YY"},
            "generation.language='en_YY' is no token of the vocabulary; did you mean en_XX",
        ),
        ({"max_new_tokens": 10_000}, "generation.max_new_tokens=10000 is above model.max_positions="),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, "min_new_tokens=9 is above max_new_tokens=8"),
    ],
)
def test_options_that_do_not_fit(make_model, options, told):
    with pytest.raises(UserError, match=told):
        prompts.resolve(make_model(), GenerationConfig(**options))


def test_prompts_that_do_not_fit(make_model):
    model = make_model()
    limit = model.config.model.max_positions
    with pytest.raises(UserError, match="prompt 2 has 0 tokens"):
        prompts.generate(model, [[5], []], GenerationConfig())
    with pytest.raises(UserError, match=f"prompt 1 has {limit + 1} tokens, but model.max_positions={limit}"):
        prompts.generate(model, [[5] * (limit + 1)], GenerationConfig())
    assert prompts.generate(model, [], GenerationConfig()) == []


def test_texts_of_a_run_that_denoises_are_as_long_as_its_pieces(make_model):
    model, text = make_model(), "We must. " * 20
    longest = GenerationConfig(max_new_tokens=3)
    assert denoises(model.config)
    with pytest.raises(UserError, match="text 1 has .* tokens, but the model takes at most 32"):
        fill(model, [text], longest)
    begun = model.config.training.model_copy(update={"init_from": "other"})
    tuned = LoadedModel(
        model.config.model_copy(update={"training": begun}), model.vocabulary, model.params, 1, model.mesh
    )
    assert not denoises(tuned.config)
    ((written,),) = fill(tuned, [text], longest)
    assert isinstance(written.text, str)
