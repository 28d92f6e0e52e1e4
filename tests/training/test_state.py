"""A new state is the same on any mesh, is laid out by the rules, and follows the seed."""

import jax
import numpy as np

from denoise_jax.training.optimizer import make_optimizer
from denoise_jax.training.state import abstract_state, count_parameters, create_state
from tests.training.helpers import initial_state, mesh_of


def test_a_state_created_on_a_mesh_equals_that_on_one_device(tiny_config):
    config = tiny_config.replace(parallel={"data": 2, "fsdp": 2, "tensor": 2})
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    state = create_state(config, optimizer, mesh_of(config))
    expected = initial_state(tiny_config.replace(parallel={"data": 1}))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-7), expected, state)
    target = abstract_state(config, optimizer, mesh_of(config))
    for leaf, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(target), strict=True):
        assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim)
        assert (leaf.shape, leaf.dtype) == (wanted.shape, wanted.dtype)
    assert count_parameters(state) == sum(leaf.size for leaf in jax.tree.leaves(expected["params"]))
    assert int(state["step"]) == 0
