"""`export_folder`: a checkpoint as a folder that Hugging Face Transformers loads."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jax
import numpy as np

from denoise_jax.errors import ConfigError, nearest
from denoise_jax.files import atomic_folder, check_new_folder
from denoise_jax.interop.generation_config import GENERATION_CONFIG, write_generation_config
from denoise_jax.interop.model_config import CONFIG, special_ids, write_model_config
from denoise_jax.interop.safetensors_files import DTYPES, write
from denoise_jax.interop.tokenizer_export import tokenizer_files
from denoise_jax.interop.weights import tensor_sizes, tensors
from denoise_jax.paths import to_path
from denoise_jax.runs.load_model import LoadedModel, load_model


@dataclasses.dataclass(frozen=True)
class ExportSummary:
    """What `export_folder` wrote."""

    folder: Path
    architecture: str  # the class in Transformers, such as "BartForConditionalGeneration"
    step: int
    vocab_size: int
    num_weight_files: int
    num_bytes: int  # of all tensors
    dtype: str


def export_folder(
    run: str | Path | LoadedModel,
    folder: str | Path,
    *,
    step: int | None = None,
    dtype: str = "float32",
    max_shard_size: float = 5.0,
    progress: Callable[[int, int], None] | None = None,
) -> ExportSummary:
    """Writes a checkpoint as a folder for Transformers: MBart if the model is pre-norm, otherwise Bart.

    Args:
      run: a run or checkpoint folder, or a loaded model.
      folder: the folder to write, completely or not at all; must be missing or empty.
      step: the checkpoint of a run; None: the newest.
      dtype: dtype of the tensors: "float32" (exact), "bfloat16" or "float16".
      max_shard_size: in GB (10^9 bytes); larger weights are split over several files.
      progress: called with (tensors written, tensors in total).

    Raises:
      ConfigError: a model that neither Bart nor MBart can represent, or an argument out of bounds.
      CheckpointError: no such checkpoint, a damaged one, or a value that `dtype` cannot represent.
      DataError: a vocabulary that cannot be written as tokenizer files.
    """
    folder = to_path(folder)
    if not max_shard_size > 0:
        raise ConfigError(f"max_shard_size={max_shard_size} must be above 0")
    if dtype not in DTYPES:
        raise ConfigError(f"dtype={dtype!r} cannot be exported; {nearest(dtype, DTYPES)}")
    check_new_folder(folder, "FOLDER")
    model = run if isinstance(run, LoadedModel) else load_model(run, step)
    config, hf_ids = model.config.model, model.vocabulary.hf_ids
    generation = _generation_config(model)
    described = write_model_config(config, hf_ids, generation, dtype)
    files = dict(tokenizer_files(model.vocabulary))
    files[CONFIG] = _as_json(described)
    if config.num_classes is None:
        files[GENERATION_CONFIG] = _as_json(generation)
    sizes = tensor_sizes(config, len(hf_ids), dtype)
    made = tensors(jax.device_get(model.params), config, hf_ids, dtype)
    with atomic_folder(folder) as temporary:
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        counted = _counted(made, len(sizes), progress)
        shards = write(temporary, counted, sizes, int(max_shard_size * 1e9))
    architecture = described["architectures"][0]
    return ExportSummary(
        folder, architecture, model.step, len(hf_ids), len(shards), sum(sizes.values()), dtype
    )


def _generation_config(model: LoadedModel) -> dict:
    """The contents of generation_config.json."""
    vocabulary, hf_ids = model.vocabulary, model.vocabulary.hf_ids

    def token_id(name: str) -> int:
        index = vocabulary.piece_id(name)
        if index is None:
            raise ConfigError(f"generation names the token {name!r}, which is not in the vocabulary")
        return int(hf_ids[index])

    return write_generation_config(
        model.config.generation,
        token_id,
        special_ids(hf_ids),
        int(hf_ids[vocabulary.start_id]),
        model.config.data.max_chunk_length,
        vocabulary.language_opens,
    )


def _counted(
    made: Iterable[tuple[str, np.ndarray]], total: int, progress: Callable[[int, int], None] | None
) -> Iterator[tuple[str, np.ndarray]]:
    for done, tensor in enumerate(made, 1):
        yield tensor
        if progress is not None:
            progress(done, total)


def _as_json(values: dict) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()
