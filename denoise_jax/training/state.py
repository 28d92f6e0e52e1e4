"""The train state: a plain tree of parameters, optimizer state, step and random key, born sharded."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from denoise_jax.config import Config
from denoise_jax.model.transformer import init_params
from denoise_jax.parallel.sharding import state_shardings
from denoise_jax.runs.warm_start import graft

# {"params": nested dict, float32; "opt_state": optax's; "step": int32; "key": uint32 [2], dropout}
State = dict


def init_state(
    config: Config,
    optimizer: optax.GradientTransformation,
    given: Mapping | None = None,
) -> State:
    """The state before the first update, from `training.seed`; pure, so that it can be made sharded.

    The parameters are `given` as far as they go (see `graft`), where a run begins with those of another.
    """
    init_key, dropout_key = jax.random.split(jax.random.key(config.training.seed))
    params = init_params(config.model, init_key)
    if given is not None:
        params = graft(params, given)
    return {
        "params": params,
        "opt_state": optimizer.init(params),
        "step": jnp.zeros((), jnp.int32),
        "key": jax.random.key_data(dropout_key),
    }


def abstract_state(config: Config, optimizer: optax.GradientTransformation, mesh: Mesh) -> State:
    """Shapes, dtypes and shardings of the state: the target of a restore, and the step's layouts."""
    shapes = jax.eval_shape(lambda: init_state(config, optimizer))
    shardings = state_shardings(shapes, mesh, shard_moments=config.parallel.shard_moments)
    return jax.tree.map(
        lambda shape, sharding: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding),
        shapes,
        shardings,
    )


def create_state(
    config: Config,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    given: Mapping | None = None,
) -> State:
    """A new state on the mesh, with the parameters `given`, on that mesh, where there are any.

    Its layouts are given to jit: without them Adam's moments are replicated.
    """
    target = abstract_state(config, optimizer, mesh)
    out_shardings = jax.tree.map(lambda leaf: leaf.sharding, target)

    def make(given: Mapping | None) -> State:
        return init_state(config, optimizer, given)

    return jax.jit(make, out_shardings=out_shardings)(given)


def count_parameters(state: State) -> int:
    """Trainable numbers in the model."""
    return sum(leaf.size for leaf in jax.tree.leaves(state["params"]))
