"""Loading a trained model from a run folder or from a single checkpoint folder."""

import dataclasses
from pathlib import Path

from jax.sharding import Mesh

from denoise_jax.config import Config, ParallelConfig
from denoise_jax.errors import CheckpointError, ConfigError
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.paths import reachable_path
from denoise_jax.runs import run_folder
from denoise_jax.runs.checkpoint import Checkpointer
from denoise_jax.runs.warm_start import abstract_params
from denoise_jax.vocabulary.base import Vocabulary
from denoise_jax.vocabulary.load import vocabulary_from_files


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """Parameters, sharded over `mesh`, with all that is needed to use them."""

    config: Config
    vocabulary: Vocabulary
    params: dict
    step: int
    mesh: Mesh
    run: Path | None = None  # the run folder it was loaded from, unless from a single checkpoint folder


@dataclasses.dataclass(frozen=True)
class StoredCheckpoint:
    """A complete checkpoint on disk whose parameters have not been read yet."""

    config: Config
    vocabulary: Vocabulary
    step: int
    checkpoints: Checkpointer
    run: Path | None = None  # as in LoadedModel

    def params(self, mesh: Mesh) -> dict:
        """The parameters, read directly into their layout on `mesh`; CheckpointError if damaged."""
        target = abstract_params(self.config.model, mesh)
        return self.checkpoints.restore(self.step, target)["params"]

    def load(self) -> LoadedModel:
        """The model, on the training run's mesh if the devices allow it, else with all devices on `data`."""
        mesh = _mesh(self.config.parallel)
        return LoadedModel(self.config, self.vocabulary, self.params(mesh), self.step, mesh, self.run)


def load_model(path: str | Path, step: int | None = None) -> LoadedModel:
    """Loads the newest checkpoint of a run, or the one of `step`, or the checkpoint folder `path` itself.

    The configuration and the vocabulary are the checkpoint's own.

    Raises:
      CheckpointError: no run, no such step, a damaged checkpoint, or one written by an earlier version.
    """
    return open_checkpoint(path, step).load()


def open_checkpoint(path: str | Path, step: int | None = None) -> StoredCheckpoint:
    """As `load_model`, but without reading the parameters."""
    folder, step, run = _find(reachable_path(path), step)
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
    vocabulary = vocabulary_from_files(contents.vocabulary)
    return StoredCheckpoint(contents.config, vocabulary, step, checkpoints, run)


def _find(path: Path, step: int | None) -> tuple[Path, int | None, Path | None]:
    """The folder of checkpoints, the step, and the run folder that `path` refers to."""
    if (path / run_folder.CHECKPOINTS).is_dir():
        return path / run_folder.CHECKPOINTS, step, path
    if path.is_dir() and path.name.isdigit():
        return path.parent, int(path.name), None
    raise CheckpointError(f"{path} is neither a run nor a checkpoint; `denoise-jax train` makes one")


def _mesh(parallel: ParallelConfig) -> Mesh:
    try:
        return make_mesh(parallel)
    except ConfigError:
        return make_mesh(ParallelConfig())
