"""`import_folder`: a run from a BART or mBART folder from Hugging Face."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

from denoise_jax.config import (
    Config,
    DataConfig,
    GenerationConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)
from denoise_jax.files import atomic_folder, check_new_folder, local_copy
from denoise_jax.interop.generation_config import read_generation_config
from denoise_jax.interop.model_config import (
    CONFIG,
    check_special_ids,
    label_notes,
    read_json,
    read_model_config,
    table_rows,
)
from denoise_jax.interop.safetensors_files import TensorFiles
from denoise_jax.interop.tensor_names import leaf_shapes
from denoise_jax.interop.tokenizer_import import from_huggingface
from denoise_jax.interop.weights import compute_dtype, read_params
from denoise_jax.paths import absolute, to_path
from denoise_jax.runs import run_folder
from denoise_jax.runs.checkpoint import Checkpointer
from denoise_jax.vocabulary.load import vocabulary_from_files


@dataclasses.dataclass(frozen=True)
class ImportSummary:
    """What `import_folder` wrote."""

    run: Path
    model_type: str  # "bart" or "mbart"
    config: Config
    num_parameters: int
    notes: tuple[str, ...]  # one line for each setting that could not be imported


def import_folder(
    folder: str | Path,
    run: str | Path,
    *,
    resize_vocabulary: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ImportSummary:
    """Converts a BART or mBART folder from Hugging Face to a run with one checkpoint, at step 0.

    The checkpoint holds parameters and no optimizer state: set `training.init_from` to train from it.

    Args:
      folder: config.json, the tokenizer, and model.safetensors or its shards.
      run: the folder to write, completely or not at all; must be missing or empty.
      resize_vocabulary: if the token embedding and the tokenizer differ in size, drop the rows that no token
        uses, and give each token without a row the mean of all rows.
      progress: called with (tensors read, tensors in total).

    Raises:
      ConfigError: an unsupported architecture or value; or `run` is not empty, or its path has a backslash.
      DataError: no tokenizer, or one that cannot be used.
      CheckpointError: missing or damaged files, or tensors that do not match config.json.
    """
    run = to_path(run)
    check_new_folder(run, "RUN")
    run_folder.check_usable_path(run)
    with local_copy(to_path(folder)) as local:
        return _import(local, run, resize_vocabulary, progress)


def _import(
    folder: Path, run: Path, resize_vocabulary: bool, progress: Callable[[int, int], None] | None
) -> ImportSummary:
    values = read_json(folder / CONFIG)
    read_model_config(values, "float32")  # reject an unsupported architecture before anything else
    files = TensorFiles(folder)
    vocabulary_files, language = from_huggingface(folder)
    vocabulary = vocabulary_from_files(vocabulary_files)
    hf_ids = vocabulary.hf_ids
    check_special_ids(values, hf_ids)
    names = {int(theirs): vocabulary.piece(ours) for ours, theirs in enumerate(hf_ids)}
    model = read_model_config(values, compute_dtype(files)).replace(vocab_size=len(vocabulary))
    start_id = int(hf_ids[vocabulary.start_id])
    generation, notes = read_generation_config(
        folder, names.__getitem__, start_id, model.max_positions, language
    )
    config = _run_config(run, model, generation)
    params = read_params(
        files, model, table_rows(values), hf_ids, resize_vocabulary=resize_vocabulary, progress=progress
    )
    with atomic_folder(run) as temporary:
        run_folder.record(temporary, config, vocabulary_files, vocabulary.fingerprint())
        checkpoints = Checkpointer(temporary / run_folder.CHECKPOINTS)
        checkpoints.save(0, {"params": params}, config=config, vocabulary=vocabulary_files, data={})
        checkpoints.close()
    num_parameters = sum(math.prod(shape) for shape in leaf_shapes(model).values())
    notes = (*label_notes(values), *notes)
    return ImportSummary(run, values["model_type"], config, num_parameters, notes)


def _run_config(run: Path, model: ModelConfig, generation: GenerationConfig) -> Config:
    """A complete configuration. Nothing is trained in this run, so the training fields are placeholders."""
    return Config(
        name=absolute(run).name,
        model=model,
        data=DataConfig(
            vocabulary=str(run / run_folder.VOCABULARY),
            batch_size=8,
            input_length=model.max_positions,
            target_length=model.max_positions,
        ),
        optimizer=OptimizerConfig(schedule="constant", warmup_steps=0),
        training=TrainingConfig(num_steps=1),
        generation=generation,
    )
