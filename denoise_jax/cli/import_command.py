"""`denoise-jax import HF_FOLDER RUN`: a run from a BART or mBART folder of Hugging Face."""

import dataclasses
import sys
from pathlib import Path

import tyro

from denoise_jax.cli.arguments import parse
from denoise_jax.cli.terminal import quiet, tracked


@dataclasses.dataclass(frozen=True)
class ImportArguments:
    """Makes a run of a BART or mBART folder of Hugging Face, for generation and as a beginning of others.

    The run has one checkpoint, of step 0, without an optimizer's state. To train on from it, begin a run in
    another folder with --training.init-from RUN.
    """

    folder: tyro.conf.Positional[str]
    """Folder with config.json, the tokenizer, and model.safetensors or its shards."""
    run: tyro.conf.Positional[str]
    """Folder to make."""
    resize_vocabulary: bool = False
    """If table and tokenizer differ in size: drop rows without a token, give tokens without one the mean."""


def main(argv: list[str]) -> int:
    """Writes the run whole or not at all, and tells what it holds."""
    arguments = parse(ImportArguments, argv, "import")
    folder, run = Path(arguments.folder), Path(arguments.run)
    with quiet():
        from denoise_jax.files import atomic_folder, check_new_folder
        from denoise_jax.interop.model_config import CONFIG, read_json, read_model_config
        from denoise_jax.interop.safetensors_files import TensorFiles

    check_new_folder(run, "RUN")
    values = read_json(folder / CONFIG)
    read_model_config(values, "float32")  # an unknown architecture is told before anything else
    files = TensorFiles(folder)
    with atomic_folder(run) as temporary:
        summary, notes = _import(values, files, run, temporary, arguments.resize_vocabulary)
    for note in notes:
        print(f"denoise-jax: {note}", file=sys.stderr)
    print(f"{summary} → {run}")
    return 0


def _import(
    values: dict, files, run: Path, temporary: Path, resize_vocabulary: bool
) -> tuple[str, list[str]]:
    """Fills the run's folder; returns a line on it, and a line on each setting that has no place here."""
    with quiet():
        from denoise_jax.interop.generation_config import read_generation_config
        from denoise_jax.interop.model_config import (
            check_special_ids,
            label_notes,
            read_model_config,
            table_rows,
        )
        from denoise_jax.interop.tokenizer_import import from_huggingface
        from denoise_jax.interop.weights import compute_dtype, read_params
        from denoise_jax.runs import run_folder
        from denoise_jax.runs.checkpoint import Checkpointer
        from denoise_jax.training.state import count_parameters
        from denoise_jax.vocabulary.load import vocabulary_from_files

    kept = from_huggingface(files.folder)
    vocabulary = vocabulary_from_files(kept)
    hf_ids = vocabulary.hf_ids
    check_special_ids(values, hf_ids)
    names = {int(theirs): vocabulary.piece(ours) for ours, theirs in enumerate(hf_ids)}
    model = read_model_config(values, compute_dtype(files)).replace(vocab_size=len(vocabulary))
    start_id = int(hf_ids[vocabulary.start_id])
    generation, notes = read_generation_config(files.folder, names.__getitem__, start_id, model.max_positions)
    config = _config(run, model, generation)
    track = tracked("reading")
    params = read_params(
        files, model, table_rows(values), hf_ids, resize_vocabulary=resize_vocabulary, track=track
    )
    run_folder.record(temporary, config, kept, vocabulary.fingerprint())
    checkpoints = Checkpointer(temporary / run_folder.CHECKPOINTS)
    checkpoints.save(0, {"params": params}, config=config, vocabulary=kept, data={})
    checkpoints.close()
    summary = (
        f"{values['model_type']}: {count_parameters({'params': params}):,} parameters, "
        f"{len(vocabulary):,} tokens, {model.max_positions:,} positions, to compute in {model.compute_dtype}"
    )
    return summary, [*label_notes(values), *notes]


def _config(run: Path, model, generation):
    """A complete configuration. What trains is not said by weights: it stands there with no meaning."""
    from denoise_jax.config import Config, DataConfig, OptimizerConfig, TrainingConfig
    from denoise_jax.runs.run_folder import VOCABULARY

    return Config(
        name=run.absolute().name,
        model=model,
        data=DataConfig(
            vocabulary=str(run / VOCABULARY),
            batch_size=8,
            input_length=model.max_positions,
            target_length=model.max_positions,
        ),
        optimizer=OptimizerConfig(schedule="constant", warmup_steps=0),
        training=TrainingConfig(num_steps=1),
        generation=generation,
    )
