"""Runs that begin with the parameters of others: the same numbers, in the shape of what they come from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.config import Config
from denoise_jax.errors import CheckpointError, ConfigError
from denoise_jax.model.transformer import init_params
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.runs.warm_start import adopt, adopt_shape, check_shape, graft
from denoise_jax.training.optimizer import make_optimizer
from denoise_jax.training.state import create_state

VOCAB = 512


def _changed(config, **sections):
    values = config.model_dump()
    for section, fields in sections.items():
        values[section] = {**values[section], **fields}
    return Config.model_validate(values)


@pytest.fixture
def finetuning(tiny_config):
    """A configuration with nothing of the source's shape, and dropouts of its own."""
    model = {"embed_dim": 768, "num_heads": 12, "ffn_dim": 3072, "norm_position": "post", "dropout": 0.3}
    return _changed(
        tiny_config,
        model={**model, "attention_dropout": 0.2, "remat": "full"},
        training={"init_from": "a/run"},
    )


def _leaves(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def test_shape_is_taken_over_and_dropout_is_not(finetuning, tiny_config):
    adopted = adopt_shape(finetuning, tiny_config.model)
    own = {"dropout": 0.3, "attention_dropout": 0.2, "remat": "full"}
    assert adopted.model == tiny_config.model.model_copy(update=own)
    assert adopted.model_copy(update={"model": finetuning.model}) == finetuning
    assert adopt_shape(adopted, tiny_config.model) == adopted
    check_shape(adopted, tiny_config.model)
    with pytest.raises(ConfigError, match="another shape than when this run began"):
        check_shape(adopted, tiny_config.model.model_copy(update={"ffn_dim": 128}))


def test_generation_settings_are_taken_over_where_there_are_none(finetuning, tiny_config):
    source = _changed(tiny_config, generation={"num_beams": 4, "forced_bos": "<s>"})
    assert adopt(finetuning, source) == _changed(
        adopt_shape(finetuning, source.model), generation=source.generation.model_dump()
    )
    own = _changed(finetuning, generation={"max_new_tokens": 9})
    assert adopt(own, source).generation == own.generation


def test_learned_positions_may_be_fewer_but_not_more(finetuning, tiny_config):
    fewer = _changed(finetuning, model={"max_positions": 64})
    assert adopt_shape(fewer, tiny_config.model).model.max_positions == 64
    more = _changed(finetuning, model={"max_positions": 256})
    with pytest.raises(ConfigError, match="max_positions=256 is above the 128 learned positions of .*a/run"):
        adopt_shape(more, tiny_config.model)
    rotary = tiny_config.model.model_copy(update={"positions": "rotary"})
    assert adopt_shape(more, rotary).model.max_positions == 256


@pytest.mark.parametrize("parallel", [{"data": 1}, {"data": 2, "fsdp": 2, "tensor": 2}])
def test_a_state_begins_with_the_very_numbers(finetuning, tiny_config, parallel):
    given = init_params(tiny_config.model, jax.random.key(7))
    config = adopt_shape(_changed(finetuning, model={"max_positions": 64}), tiny_config.model)
    devices = jax.devices()[: 8 if len(parallel) > 1 else 1]
    mesh = make_mesh(_changed(config, parallel=parallel).parallel, devices)
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    state = create_state(config, optimizer, mesh, given)
    expected, found = _leaves(given), _leaves(state["params"])
    assert expected.keys() == found.keys()
    for name, leaf in found.items():
        cut = expected[name][:64] if "positions" in name else expected[name]
        np.testing.assert_array_equal(leaf, cut, err_msg=name)
    assert int(state["step"]) == 0


def test_a_head_is_new_and_takes_the_place_of_the_output(finetuning, tiny_config):
    source = tiny_config.model.model_copy(update={"tie_embeddings": False, "num_classes": 3})
    untied = source.model_copy(update={"num_classes": None})
    with_output = init_params(untied, jax.random.key(7))
    assert "output" in with_output
    fresh = init_params(source, jax.random.key(8))
    began = graft(fresh, with_output)
    assert began.keys() == fresh.keys() and "output" not in began
    np.testing.assert_array_equal(began["embedding"]["tokens"], with_output["embedding"]["tokens"])
    np.testing.assert_array_equal(began["classifier"]["out"]["kernel"], fresh["classifier"]["out"]["kernel"])
    # A head that is there already is not taken over: its classes may mean something else.
    other = init_params(source, jax.random.key(9))
    began = graft(fresh, other)
    np.testing.assert_array_equal(began["classifier"]["out"]["kernel"], fresh["classifier"]["out"]["kernel"])
    with pytest.raises(ConfigError, match="has a head for 3 classes in place of its output"):
        adopt_shape(finetuning, source)


def test_missing_and_misshapen_parameters_are_named():
    fresh = {"encoder": {"positions": jnp.zeros((8, 4)), "scale": jnp.zeros(4)}}
    with pytest.raises(CheckpointError, match=r"encoder/scale should be \(4,\), found nothing"):
        graft(fresh, {"encoder": {"positions": jnp.zeros((8, 4))}})
    with pytest.raises(CheckpointError, match=r"encoder/positions should be \(8, 4\), found \(6, 4\)"):
        graft(fresh, {"encoder": {"positions": jnp.zeros((6, 4)), "scale": jnp.zeros(4)}})
