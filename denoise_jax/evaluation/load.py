"""A trained model from a run folder, or from one checkpoint folder alone."""

import dataclasses
import shutil
import tempfile
import weakref
from pathlib import Path

from jax.sharding import Mesh

from denoise_jax.config import Config, ParallelConfig
from denoise_jax.data.vocabulary import Vocabulary, load
from denoise_jax.errors import CheckpointError, ConfigError
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.training import run_folder
from denoise_jax.training.checkpoint import Checkpointer
from denoise_jax.training.initialise import abstract_params


@dataclasses.dataclass(frozen=True)
class Model:
    """Parameters, laid out on `mesh`, with all that is needed to use them."""

    config: Config
    vocabulary: Vocabulary
    params: dict
    step: int
    mesh: Mesh


@dataclasses.dataclass(frozen=True)
class Stored:
    """A whole checkpoint on disk: what it is of, and its parameters when they are asked for."""

    config: Config
    vocabulary: Vocabulary
    step: int
    checkpoints: Checkpointer

    def params(self, mesh: Mesh) -> dict:
        """Its parameters, read straight into their layout on `mesh`; CheckpointError if they are damaged."""
        target = abstract_params(self.config.model, len(self.vocabulary), mesh)
        return self.checkpoints.restore(self.step, target)["params"]


def load_model(path: str | Path, step: int | None = None) -> Model:
    """The newest checkpoint of the run at `path`, that of `step`, or the checkpoint folder `path` itself.

    The configuration and the vocabulary are the checkpoint's own; the mesh is the training run's if its
    axes fit the devices here, and otherwise has them all on `data`.

    Raises:
      CheckpointError: no run, no such step, or a damaged checkpoint.
    """
    stored = open_checkpoint(path, step)
    mesh = _mesh(stored.config.parallel)
    return Model(stored.config, stored.vocabulary, stored.params(mesh), stored.step, mesh)


def open_checkpoint(path: str | Path, step: int | None = None) -> Stored:
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
    return Stored(contents.config, vocabulary_of(contents.vocabulary), step, checkpoints)


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


def vocabulary_of(files: dict[str, bytes]) -> Vocabulary:
    """The vocabulary whose files, name → content, are held in memory; DataError if they are unfit."""
    folder = tempfile.mkdtemp(prefix="denoise-jax-")
    for name, content in files.items():
        (Path(folder) / name).write_bytes(content)
    vocabulary = load(folder)
    weakref.finalize(vocabulary, shutil.rmtree, folder, ignore_errors=True)  # SeqIO reads the file later
    return vocabulary
