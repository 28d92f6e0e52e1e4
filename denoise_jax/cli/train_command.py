"""`denoise-jax train CONFIG --workdir RUN [overrides]`: starts or resumes a run."""

import contextlib
import dataclasses
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from denoise_jax.cli.arguments import parse_with_config
from denoise_jax.cli.terminal import quiet
from denoise_jax.config import Config
from denoise_jax.errors import ConfigError

if TYPE_CHECKING:
    from denoise_jax.runs.load_model import StoredCheckpoint
    from denoise_jax.vocabulary.base import Vocabulary


@dataclasses.dataclass(frozen=True)
class TrainArguments:
    """Trains a configuration in a folder; the same command again resumes it."""

    configuration: tyro.conf.Positional[str]
    """A name in configs/, a dotted module with config(), or a config.json."""
    workdir: str
    """Folder of the run."""
    config: Annotated[Config, tyro.conf.arg(name="")]


def main(argv: list[str]) -> int:
    """Trains; 0 also when asked to stop before the end, 1 if the loss is no number."""
    arguments = parse_with_config(TrainArguments, argv, "train")
    config, folder = arguments.config, Path(arguments.workdir)
    # Cheap checks come before the frameworks are loaded.
    config, vocabulary, source = _beginning(config, folder)
    with quiet():
        from denoise_jax.data import registry
        from denoise_jax.data.finetuning import check_classes
        from denoise_jax.evaluation.evaluate import Evaluator
        from denoise_jax.parallel.mesh import make_mesh
        from denoise_jax.runs import run_folder
        from denoise_jax.training import plots
        from denoise_jax.training.loop import NonFiniteLoss, Trainer
        from denoise_jax.vocabulary.load import load_vocabulary

    from rich.console import Console

    console = Console()
    task = registry.find_task(config.data.task, config.data.task_modules)
    check_classes(task, config.model.num_classes)
    mesh = make_mesh(config.parallel)
    registry.check_splits(
        task, ["train"] + [config.evaluation.validation_split] * bool(config.training.evaluate_every)
    )
    notes, held = run_folder.prepare(folder, config, vocabulary.files(), vocabulary.fingerprint())
    for note in notes:
        console.print(f"changed since the run began: {note}", highlight=False)
    with held or contextlib.nullcontext():
        vocabulary = load_vocabulary(folder / run_folder.VOCABULARY)
        evaluator = Evaluator(config, vocabulary, mesh)

        def validate(params):
            return evaluator.measure(
                params, config.evaluation.validation_split, config.evaluation.max_batches
            )

        initial = None
        if config.training.init_from is not None:
            initial = functools.partial(_parameters, source, config, vocabulary, mesh, console)
        trainer = Trainer(config, folder, vocabulary, mesh, validate, console, initial)
        try:
            complete = trainer.run()
        except NonFiniteLoss as error:
            print(f"denoise-jax train: {error}", file=sys.stderr)
            return 1
        if held is not None:  # the first process
            picture = plots.plot_loss(folder, config.name)
            end = "done" if complete else "stopped"
            console.print(f"{end} at step {trainer.step}; loss curve in {picture}", highlight=False)
    return 0


def _beginning(config: Config, folder: Path) -> "tuple[Config, Vocabulary, StoredCheckpoint | None]":
    """The configuration in the shape of what the run begins with, its vocabulary, and where that lies.

    A run that has begun has its shape and vocabulary itself, and what it began with is not looked for.
    """
    from denoise_jax.runs import run_folder
    from denoise_jax.vocabulary.load import load_vocabulary

    own = run_folder.begun(folder)
    if config.data.task is None:
        raise ConfigError("data.task names no task to train on; give --data.task NAME")
    vocabulary = None if config.data.vocabulary is None else _vocabulary(config.data.vocabulary, folder)
    if config.training.init_from is None:
        return _with_vocab_size(config, vocabulary), vocabulary, None
    with quiet():
        from denoise_jax.runs.load_model import open_checkpoint
        from denoise_jax.runs.warm_start import adopt

    kept = run_folder.vocabulary_folder(folder)
    if own is not None and (vocabulary or kept):
        return adopt(config, own), vocabulary or load_vocabulary(kept), None
    source = open_checkpoint(config.training.init_from)
    _check_vocabulary(config, vocabulary, source)
    return adopt(config, source.config), vocabulary or source.vocabulary, source


def _parameters(
    source: "StoredCheckpoint | None", config: Config, vocabulary: "Vocabulary", mesh, console
) -> dict:
    """What a run without a checkpoint begins with, on `mesh`; it may have been stopped before its first."""
    from denoise_jax.runs.load_model import open_checkpoint
    from denoise_jax.runs.warm_start import check_shape

    source = source or open_checkpoint(config.training.init_from)
    check_shape(config, source.config.model)
    _check_vocabulary(config, vocabulary, source)
    console.print(
        f"begins with the parameters of {config.training.init_from}, step {source.step}, in its shape",
        highlight=False,
        soft_wrap=True,
    )
    return source.params(mesh)


def _with_vocab_size(config: Config, vocabulary: "Vocabulary") -> Config:
    """The configuration with the size of its vocabulary filled in."""
    if config.model.vocab_size not in (None, len(vocabulary)):
        raise ConfigError(
            f"model.vocab_size={config.model.vocab_size}, but the vocabulary {config.data.vocabulary} has "
            f"{len(vocabulary)} ids; leave model.vocab_size out"
        )
    return config.replace(model={"vocab_size": len(vocabulary)})


def _check_vocabulary(config: Config, vocabulary: "Vocabulary | None", source: "StoredCheckpoint") -> None:
    if vocabulary is not None and vocabulary.fingerprint() != source.vocabulary.fingerprint():
        raise ConfigError(
            f"the vocabulary {config.data.vocabulary or 'of the run'} is not that of "
            f"training.init_from={config.training.init_from}, whose parameters belong to its own; "
            "leave data.vocabulary out (--data.vocabulary None)"
        )


def _vocabulary(path: str, folder: Path) -> "Vocabulary":
    """The vocabulary at `path`, or the run's own where that is gone."""
    from denoise_jax.errors import DataError
    from denoise_jax.runs.run_folder import vocabulary_folder
    from denoise_jax.vocabulary.load import load_vocabulary

    try:
        return load_vocabulary(path)
    except DataError:
        own = vocabulary_folder(folder)
        if own is not None and not Path(path).exists():
            return load_vocabulary(own)
        raise
