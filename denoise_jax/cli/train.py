"""`denoise-jax train CONFIG --workdir RUN [overrides]`: starts or resumes a run."""

import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from denoise_jax.cli.config import resolve
from denoise_jax.cli.terminal import quiet
from denoise_jax.config import Config


@dataclasses.dataclass(frozen=True)
class TrainArguments:
    """Trains a configuration in a folder; the same command again resumes it."""

    name: tyro.conf.Positional[str]
    """A name in configs/, a dotted module with config(), or a config.json."""
    workdir: str
    """Folder of the run."""
    config: Annotated[Config, tyro.conf.arg(name="")]


def main(argv: list[str]) -> int:
    """Trains; 0 also when asked to stop before the end, 1 if the loss is no number."""
    arguments = resolve(TrainArguments, argv, "train")
    config, folder = arguments.config, Path(arguments.workdir)
    # Cheap checks come before the frameworks are loaded.
    from denoise_jax.data import vocabulary as vocabularies

    vocabulary = _vocabulary(config.data.vocabulary, folder)
    with quiet():
        from denoise_jax.data import tasks
        from denoise_jax.evaluation.evaluate import Evaluator
        from denoise_jax.parallel.mesh import make_mesh
        from denoise_jax.training import plots, run_folder
        from denoise_jax.training.loop import NonFiniteLoss, Trainer

    from rich.console import Console

    console = Console()
    task = tasks.find(config.data.task, config.data.task_modules)
    mesh = make_mesh(config.parallel)
    tasks.check_splits(
        task, ["train"] + [config.evaluation.validation_split] * bool(config.training.evaluate_every)
    )
    notes, held = run_folder.prepare(folder, config, vocabularies.files(vocabulary), vocabulary.fingerprint())
    for note in notes:
        console.print(f"changed since the run began: {note}", highlight=False)
    with held or contextlib.nullcontext():
        vocabulary = vocabularies.load(folder / run_folder.VOCABULARY)
        evaluator = Evaluator(config, vocabulary, mesh)

        def validate(params):
            return evaluator.measure(
                params, config.evaluation.validation_split, config.evaluation.max_batches
            )

        trainer = Trainer(config, folder, vocabulary, mesh, validate, console)
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


def _vocabulary(path: str, folder: Path):
    """The vocabulary at `path`, or the run's own where that is gone."""
    from denoise_jax.data.vocabulary import load
    from denoise_jax.errors import DataError
    from denoise_jax.training.run_folder import VOCABULARY, newest_files

    try:
        return load(path)
    except DataError:
        kept = [folder / VOCABULARY, (newest_files(folder) or folder) / VOCABULARY]
        for own in kept:
            if own.is_dir() and not Path(path).exists():
                return load(own)
        raise
