"""Warm starts: a run that is initialised from the parameters of another run."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from denoise_jax.config import Config, GenerationConfig, ModelConfig
from denoise_jax.errors import CheckpointError, ConfigError
from denoise_jax.model.transformer import init_params
from denoise_jax.parallel.sharding import leaf_name, state_shardings

# Set by the new run itself. All other fields of the model section are its architecture: the source's.
_OWN_FIELDS = (
    "max_positions",  # learned positions: at most as many as the source has
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
_HEAD = "classifier/"  # always new: as many classes need not be the same classes


def warm_start_config(config: Config, source: Config) -> Config:
    """`config` with the source's architecture, and its generation settings if `config` has only defaults."""
    generation = source.generation if config.generation == GenerationConfig() else config.generation
    return with_architecture(config, source.model).model_copy(update={"generation": generation})


def with_architecture(config: Config, source: ModelConfig) -> Config:
    """`config` with the architecture of `source`, but its own dropout, classification head and layout.

    Raises:
      ConfigError: more learned positions than the source has, or token prediction from a source with a
        classification head in place of an untied output projection.
    """
    name, own = config.training.init_from, config.model
    if source.positions == "learned" and own.max_positions > source.max_positions:
        raise ConfigError(
            f"model.max_positions={own.max_positions} is above the {source.max_positions} learned positions "
            f"of training.init_from={name}; give --model.max-positions {source.max_positions} or fewer"
        )
    if source.num_classes and not own.num_classes and not source.tie_embeddings:
        raise ConfigError(
            f"training.init_from={name} has a classification head in place of its output projection, so it "
            "cannot predict tokens; start from the run that it was initialised from"
        )
    model = source.model_copy(update={field: getattr(own, field) for field in _OWN_FIELDS})
    return config.model_copy(update={"model": model})


def check_architecture(config: Config, source: ModelConfig) -> None:
    """ConfigError unless `config` has the architecture of `source`, which may have been replaced since."""
    if with_architecture(config, source) != config:
        raise ConfigError(
            f"the architecture of training.init_from={config.training.init_from} has changed since this run "
            "started; choose another workdir"
        )


def abstract_params(model: ModelConfig, mesh: Mesh) -> dict:
    """{"params": shapes, dtypes and shardings on `mesh`}: the target for restoring parameters alone."""
    shapes = jax.eval_shape(lambda: {"params": init_params(model, jax.random.key(0))})
    return jax.tree.map(
        lambda shape, sharding: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding),
        shapes,
        state_shardings(shapes, mesh, shard_moments=False),
    )


def warm_start_params(fresh: Mapping, source: Mapping) -> dict:
    """The parameters of `source` in the structure of `fresh`, which supplies the classification head.

    Position tables are truncated to the length in `fresh`. Leaves that only `source` has (an output
    projection or a head) are dropped.

    Raises:
      CheckpointError: a leaf is missing or has another shape.
    """
    known = {leaf_name(path): leaf for path, leaf in jax.tree.leaves_with_path(source)}

    def take(path, leaf: jax.Array) -> jax.Array:
        name = leaf_name(path)
        if name.startswith(_HEAD):
            return leaf
        found = known.get(name)
        if found is not None and name.endswith("/positions"):
            found = found[: len(leaf)]
        if found is None or found.shape != leaf.shape:
            shape = "nothing" if found is None else found.shape
            raise CheckpointError(
                f"training.init_from: parameter {name} should be {leaf.shape}, found {shape}"
            )
        return jnp.asarray(found, leaf.dtype)

    return jax.tree.map_with_path(take, fresh)
