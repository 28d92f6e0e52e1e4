"""Warm starts: the same parameters, in the architecture that they come from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.errors import CheckpointError, ConfigError
from denoise_jax.model.transformer import init_params
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.runs.warm_start import (
    check_architecture,
    warm_start_config,
    warm_start_params,
    with_architecture,
)
from denoise_jax.training.optimizer import make_optimizer
from denoise_jax.training.state import create_state


@pytest.fixture
def finetuning(tiny_config):
    """A configuration with another architecture than the source, and its own dropout."""
    model = {"embed_dim": 768, "num_heads": 12, "ffn_dim": 3072, "norm_position": "post", "dropout": 0.3}
    return tiny_config.replace(
        model={**model, "attention_dropout": 0.2, "remat": "full"},
        training={"init_from": "a/run"},
    )


def _leaves(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def test_the_architecture_is_the_sources_and_dropout_is_not(finetuning, tiny_config):
    resolved = with_architecture(finetuning, tiny_config.model)
    own = {"dropout": 0.3, "attention_dropout": 0.2, "remat": "full"}
    assert resolved.model == tiny_config.model.model_copy(update=own)
    assert resolved.model_copy(update={"model": finetuning.model}) == finetuning
    assert with_architecture(resolved, tiny_config.model) == resolved
    check_architecture(resolved, tiny_config.model)
    with pytest.raises(ConfigError, match="has changed since this run started"):
        check_architecture(resolved, tiny_config.model.model_copy(update={"ffn_dim": 128}))


def test_generation_settings_are_the_sources_unless_given(finetuning, tiny_config):
    source = tiny_config.replace(generation={"num_beams": 4, "forced_bos": "<s>"})
    expected = with_architecture(finetuning, source.model).replace(generation=source.generation)
    assert warm_start_config(finetuning, source) == expected
    own = finetuning.replace(generation={"max_new_tokens": 9})
    assert warm_start_config(own, source).generation == own.generation


def test_learned_positions_may_be_fewer_but_not_more(finetuning, tiny_config):
    fewer = finetuning.replace(model={"max_positions": 64})
    assert with_architecture(fewer, tiny_config.model).model.max_positions == 64
    more = finetuning.replace(model={"max_positions": 256})
    with pytest.raises(ConfigError, match="max_positions=256 is above the 128 learned positions of .*a/run"):
        with_architecture(more, tiny_config.model)
    rotary = tiny_config.model.model_copy(update={"positions": "rotary"})
    assert with_architecture(more, rotary).model.max_positions == 256


@pytest.mark.parametrize("parallel", [{"data": 1}, {"data": 2, "fsdp": 2}])
def test_a_state_is_initialised_from_exactly_the_given_parameters(finetuning, tiny_config, parallel):
    given = init_params(tiny_config.model, jax.random.key(7))
    config = with_architecture(finetuning.replace(model={"max_positions": 64}), tiny_config.model)
    devices = jax.devices()[: 4 if len(parallel) > 1 else 1]
    mesh = make_mesh(config.replace(parallel=parallel).parallel, devices)
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    state = create_state(config, optimizer, mesh, given)
    expected, found = _leaves(given), _leaves(state["params"])
    assert expected.keys() == found.keys()
    for name, leaf in found.items():
        cut = expected[name][:64] if "positions" in name else expected[name]
        np.testing.assert_array_equal(leaf, cut, err_msg=name)
    assert int(state["step"]) == 0


def test_a_head_is_new_and_replaces_the_output_projection(finetuning, tiny_config):
    source = tiny_config.model.model_copy(update={"tie_embeddings": False, "num_classes": 3})
    untied = source.model_copy(update={"num_classes": None})
    with_output = init_params(untied, jax.random.key(7))
    assert "output" in with_output
    fresh = init_params(source, jax.random.key(8))
    started = warm_start_params(fresh, with_output)
    assert started.keys() == fresh.keys() and "output" not in started
    np.testing.assert_array_equal(started["embedding"]["tokens"], with_output["embedding"]["tokens"])
    np.testing.assert_array_equal(
        started["classifier"]["out"]["kernel"], fresh["classifier"]["out"]["kernel"]
    )
    # Nor is an existing head copied: its classes may be different ones.
    other = init_params(source, jax.random.key(9))
    started = warm_start_params(fresh, other)
    np.testing.assert_array_equal(
        started["classifier"]["out"]["kernel"], fresh["classifier"]["out"]["kernel"]
    )
    with pytest.raises(ConfigError, match="has a classification head in place of its output projection"):
        with_architecture(finetuning, source)


def test_missing_and_misshapen_parameters_are_named():
    fresh = {"encoder": {"positions": jnp.zeros((8, 4)), "scale": jnp.zeros(4)}}
    with pytest.raises(CheckpointError, match=r"encoder/scale should be \(4,\), found nothing"):
        warm_start_params(fresh, {"encoder": {"positions": jnp.zeros((8, 4))}})
    with pytest.raises(CheckpointError, match=r"encoder/positions should be \(8, 4\), found \(6, 4\)"):
        warm_start_params(fresh, {"encoder": {"positions": jnp.zeros((6, 4)), "scale": jnp.zeros(4)}})
