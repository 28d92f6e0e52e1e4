"""The train state: a plain tree of parameters, optimizer state, step and random key, created sharded."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from denoise_jax.config import Config
from denoise_jax.model.transformer import init_params
from denoise_jax.parallel.sharding import state_shardings
from denoise_jax.runs.warm_start import warm_start_params

# {"params": nested dict, float32; "opt_state": optax's; "step": int32; "key": uint32 [2], for dropout}
State = dict


def init_state(
    config: Config,
    optimizer: optax.GradientTransformation,
    source_params: Mapping | None = None,
) -> State:
    """The state before the first update, from `training.seed`. Pure, so that jit can create it sharded.

    For a warm start, the parameters are taken from `source_params` by `warm_start_params`.
    """
    init_key, dropout_key = jax.random.split(jax.random.key(config.training.seed))
    params = init_params(config.model, init_key)
    if source_params is not None:
        params = warm_start_params(params, source_params)
    return {
        "params": params,
        "opt_state": optimizer.init(params),
        "step": jnp.zeros((), jnp.int32),
        "key": jax.random.key_data(dropout_key),
    }


def abstract_state(config: Config, optimizer: optax.GradientTransformation, mesh: Mesh) -> State:
    """Shapes, dtypes and shardings of the state: the layout of the step, and the target of a restore."""
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
    source_params: Mapping | None = None,
) -> State:
    """`init_state` on the mesh; `source_params` must be on the mesh as well."""
    # Shardings are passed to jit: left to the compiler, Adam's moments would be replicated.
    out_shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(config, optimizer, mesh))

    def create(source_params: Mapping | None) -> State:
        return init_state(config, optimizer, source_params)

    return jax.jit(create, out_shardings=out_shardings)(source_params)


def count_parameters(state: State) -> int:
    """Number of trainable parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(state["params"]))
