"""Resolving what a training run starts from: its architecture, its vocabulary, and its warm start if any."""

import dataclasses
from pathlib import Path

from jax.sharding import Mesh

from denoise_jax.config import Config
from denoise_jax.errors import ConfigError, DataError
from denoise_jax.paths import to_path
from denoise_jax.runs.load_model import StoredCheckpoint, open_checkpoint
from denoise_jax.runs.run_folder import existing_config, vocabulary_folder
from denoise_jax.runs.warm_start import check_architecture, warm_start_config
from denoise_jax.vocabulary.base import Vocabulary
from denoise_jax.vocabulary.load import load_vocabulary


@dataclasses.dataclass(frozen=True)
class ResolvedRun:
    """A configuration with the architecture and `model.vocab_size` filled in, and its vocabulary."""

    config: Config
    vocabulary: Vocabulary
    source: StoredCheckpoint | None = None  # for a warm start of a new run

    def initial_params(self, mesh: Mesh) -> tuple[dict, int]:
        """Parameters for a warm start, on `mesh`, and the step of the checkpoint that they are from.

        A run that was stopped before its first checkpoint looks for its source again.

        Raises:
          CheckpointError: the source is gone or damaged.
          ConfigError: its architecture or vocabulary is not the one this run started with.
        """
        source = self.source or open_checkpoint(self.config.training.init_from)
        check_architecture(self.config, source.config.model)
        _check_vocabulary(self.config, self.vocabulary, source)
        return source.params(mesh), source.step


def resolve_run(config: Config, folder: Path) -> ResolvedRun:
    """Resolves `config` for a new run in `folder`, or for resuming the one in it. Needs no TensorFlow.

    A run that has started keeps its own architecture and vocabulary, and its warm-start source may be gone.

    Raises:
      ConfigError: no task, imported weights in `folder`, or a vocabulary or architecture that does not fit.
      CheckpointError: the folder or `training.init_from` cannot be read.
      DataError: the vocabulary cannot be read.
    """
    old = existing_config(folder)
    if config.data.task is None:
        raise ConfigError("data.task is not set; give the task to train on, --data.task NAME")
    vocabulary = None if config.data.vocabulary is None else _load_vocabulary(config.data.vocabulary, folder)
    if config.training.init_from is None:
        return ResolvedRun(_with_vocab_size(config, vocabulary), vocabulary)
    own_vocabulary = vocabulary_folder(folder)
    if old is not None and (vocabulary or own_vocabulary):
        return ResolvedRun(warm_start_config(config, old), vocabulary or load_vocabulary(own_vocabulary))
    source = open_checkpoint(config.training.init_from)
    if vocabulary is not None:
        _check_vocabulary(config, vocabulary, source)
    return ResolvedRun(warm_start_config(config, source.config), vocabulary or source.vocabulary, source)


def _load_vocabulary(path: str, folder: Path) -> Vocabulary:
    """The vocabulary at `path`, or the run's own if nothing is there any more."""
    try:
        return load_vocabulary(path)
    except DataError:
        own = vocabulary_folder(folder)
        if own is not None and not to_path(path).exists():
            return load_vocabulary(own)
        raise


def _with_vocab_size(config: Config, vocabulary: Vocabulary) -> Config:
    if config.model.vocab_size not in (None, len(vocabulary)):
        raise ConfigError(
            f"model.vocab_size={config.model.vocab_size}, but the vocabulary {config.data.vocabulary} has "
            f"{len(vocabulary)} ids; leave model.vocab_size unset"
        )
    return config.replace(model={"vocab_size": len(vocabulary)})


def _check_vocabulary(config: Config, vocabulary: Vocabulary, source: StoredCheckpoint) -> None:
    if vocabulary.fingerprint() != source.vocabulary.fingerprint():
        raise ConfigError(
            f"the vocabulary {config.data.vocabulary or 'of the run'} is not that of "
            f"training.init_from={config.training.init_from}, whose parameters depend on it; leave "
            "data.vocabulary unset (--data.vocabulary None)"
        )
