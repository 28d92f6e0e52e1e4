"""Runs that begin with the parameters of another: which shape they have, and which leaves they take over."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from denoise_jax.config import Config, GenerationConfig, ModelConfig
from denoise_jax.errors import CheckpointError, ConfigError
from denoise_jax.model.transformer import init_params
from denoise_jax.parallel.sharding import leaf_name, state_shardings

# What a new run sets for itself. All else in the model section is the shape of what it begins with.
_OWN = (
    "max_positions",  # fewer only, where positions are learned
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "encoder_layer_drop",
    "decoder_layer_drop",
    "num_classes",
    "classifier_dropout",
    "init_std",
    "compute_dtype",
    "scan_layers",
    "remat",
)
_HEAD = "classifier/"  # always new: classes that share a number need not share a meaning


def adopt(config: Config, source: Config) -> Config:
    """`adopt_shape`, and the generation settings of the source where `config` sets none."""
    generation = source.generation if config.generation == GenerationConfig() else config.generation
    return adopt_shape(config, source.model).model_copy(update={"generation": generation})


def adopt_shape(config: Config, source: ModelConfig) -> Config:
    """`config` with the shape of the model that it begins with; dropouts, head and layout stay its own.

    Raises:
      ConfigError: more learned positions than the source has, rows beyond them, or a vocabulary's output
        asked of a source whose untied output gave way to a head.
    """
    name, own = config.training.init_from, config.model
    if source.positions == "learned" and own.max_positions > source.max_positions:
        raise ConfigError(
            f"model.max_positions={own.max_positions} is above the {source.max_positions} learned positions "
            f"of training.init_from={name}; give --model.max-positions {source.max_positions} or fewer"
        )
    if source.num_classes and not own.num_classes and not source.tie_embeddings:
        raise ConfigError(
            f"training.init_from={name} has a head for {source.num_classes} classes in place of its output, "
            "so it cannot go on writing text; begin with the run that it was made from"
        )
    model = source.model_copy(update={field: getattr(own, field) for field in _OWN})
    return config.model_copy(update={"model": model})


def check_shape(config: Config, source: ModelConfig) -> None:
    """ConfigError unless `config` still has the shape of the source, which may be another run by now."""
    if adopt_shape(config, source) != config:
        raise ConfigError(
            f"training.init_from={config.training.init_from} has another shape than when this run began; "
            "choose another --workdir"
        )


def abstract_params(model: ModelConfig, mesh: Mesh) -> dict:
    """{"params": shapes, dtypes and shardings on `mesh`}: the target of a restore of parameters alone."""
    shapes = jax.eval_shape(lambda: {"params": init_params(model, jax.random.key(0))})
    return jax.tree.map(
        lambda shape, sharding: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding),
        shapes,
        state_shardings(shapes, mesh, shard_moments=False),
    )


def graft(fresh: Mapping, given: Mapping) -> dict:
    """`given` in the structure of `fresh`: the head stays fresh, and position tables lose their last rows.

    Both are trees of parameters; leaves of `given` that `fresh` lacks (an output or a head) are dropped.
    CheckpointError, with the name, for a leaf that is missing or of another shape.
    """
    known = {leaf_name(path): leaf for path, leaf in jax.tree.leaves_with_path(given)}

    def take(path, leaf: jax.Array) -> jax.Array:
        name = leaf_name(path)
        if name.startswith(_HEAD):
            return leaf
        found = known.get(name)
        if found is not None and name.endswith("/positions"):
            found = found[: len(leaf)]
        if found is None or found.shape != leaf.shape:
            had = "nothing" if found is None else found.shape
            raise CheckpointError(f"training.init_from: parameter {name} should be {leaf.shape}, found {had}")
        return jnp.asarray(found, leaf.dtype)

    return jax.tree.map_with_path(take, fresh)
