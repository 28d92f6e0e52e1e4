"""A trained model from a run folder, or from one checkpoint folder alone."""

import dataclasses
from pathlib import Path

from jax.sharding import Mesh

from denoise_jax.config import Config, ParallelConfig
from denoise_jax.errors import CheckpointError, ConfigError
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.runs import run_folder
from denoise_jax.runs.checkpoint import Checkpointer
from denoise_jax.runs.warm_start import abstract_params
from denoise_jax.vocabulary.base import Vocabulary
from denoise_jax.vocabulary.load import vocabulary_from_files


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """Parameters, laid out on `mesh`, with all that is needed to use them."""

    config: Config
    vocabulary: Vocabulary
    params: dict
    step: int
    mesh: Mesh


@dataclasses.dataclass(frozen=True)
class StoredCheckpoint:
    """A whole checkpoint on disk: what it is of, and its parameters when they are asked for."""

    config: Config
    vocabulary: Vocabulary
    step: int
    checkpoints: Checkpointer

    def params(self, mesh: Mesh) -> dict:
        """Its parameters, read straight into their layout on `mesh`; CheckpointError if they are damaged."""
        target = abstract_params(self.config.model, mesh)
        return self.checkpoints.restore(self.step, target)["params"]


def load_model(path: str | Path, step: int | None = None) -> LoadedModel:
    """The newest checkpoint of the run at `path`, that of `step`, or the checkpoint folder `path` itself.

    The configuration and the vocabulary are the checkpoint's own; the mesh is the training run's if its
    axes fit the devices here, and otherwise has them all on `data`.

    Raises:
      CheckpointError: no run, no such step, or a damaged checkpoint.
    """
    stored = open_checkpoint(path, step)
    mesh = _mesh(stored.config.parallel)
    return LoadedModel(stored.config, stored.vocabulary, stored.params(mesh), stored.step, mesh)


def open_checkpoint(path: str | Path, step: int | None = None) -> StoredCheckpoint:
    """The checkpoint that `load_model` would read, without its parameters; the same errors."""
    folder, step = _find(Path(path), step)
    checkpoints = Checkpointer(folder, read_only=True)
    steps = checkpoints.steps()
    if not steps:
        raise CheckpointError(f"{folder} holds no complete checkpoint; train first")
    step = steps[-1] if step is None else step
    if step not in steps:
        raise CheckpointError(
            f"{folder} has no checkpoint of step {step}; it has {', '.join(map(str, steps))}"
        )
    contents = checkpoints.contents(step)
    return StoredCheckpoint(contents.config, vocabulary_from_files(contents.vocabulary), step, checkpoints)


def _find(path: Path, step: int | None) -> tuple[Path, int | None]:
    """(folder of checkpoints, step) that `path` stands for."""
    if (path / run_folder.CHECKPOINTS).is_dir():
        return path / run_folder.CHECKPOINTS, step
    if path.is_dir() and path.name.isdigit():
        return path.parent, int(path.name)
    raise CheckpointError(f"{path} is neither a run nor a checkpoint; `denoise-jax train` makes one")


def _mesh(parallel: ParallelConfig) -> Mesh:
    """The mesh of the training run, or one over `data` where the devices here are others."""
    try:
        return make_mesh(parallel)
    except ConfigError:
        return make_mesh(ParallelConfig())
