"""`denoise-jax export RUN FOLDER`: a folder that transformers loads, from a checkpoint."""

import dataclasses
import json
from pathlib import Path
from typing import Literal

import tyro

from denoise_jax.cli.arguments import parse
from denoise_jax.cli.terminal import quiet, tracked
from denoise_jax.errors import ConfigError, UserError


@dataclasses.dataclass(frozen=True)
class ExportArguments:
    """Writes a checkpoint as a folder for transformers of Hugging Face: MBart if pre-norm, else Bart."""

    run: tyro.conf.Positional[str]
    """Folder of a run, or of one checkpoint."""
    folder: tyro.conf.Positional[str]
    """Folder to make."""
    step: int | None = None
    """Checkpoint to export; default: the newest."""
    max_shard_size: float = 5.0
    """Size in GB (10^9 bytes) above which the weights are cut into several files."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the tensors written; float32 is exact."""


def main(argv: list[str]) -> int:
    """Writes the folder whole or not at all, and tells what it holds."""
    arguments = parse(ExportArguments, argv, "export")
    if not arguments.max_shard_size > 0:
        raise UserError(f"--max-shard-size {arguments.max_shard_size} must be above 0")
    folder = Path(arguments.folder)
    with quiet():
        from denoise_jax.files import atomic_folder, check_new_folder
        from denoise_jax.interop.generation_config import GENERATION_CONFIG
        from denoise_jax.interop.model_config import CONFIG
        from denoise_jax.interop.tokenizer_export import tokenizer_files
        from denoise_jax.runs.load_model import load_model

    check_new_folder(folder, "FOLDER")
    model = load_model(arguments.run, arguments.step)
    described, generation = _descriptions(model, arguments.dtype)
    tokenizer = tokenizer_files(model.vocabulary)
    with atomic_folder(folder) as temporary:
        for name, content in tokenizer.items():
            (temporary / name).write_bytes(content)
        _write_json(temporary / CONFIG, described)
        if model.config.model.num_classes is None:
            _write_json(temporary / GENERATION_CONFIG, generation)
        shards, size = _write_weights(model, temporary, arguments.dtype, int(arguments.max_shard_size * 1e9))
    print(
        f"{described['architectures'][0]} of step {model.step}, {len(model.vocabulary):,} tokens, "
        f"{size / 1e6:,.1f} MB of {arguments.dtype} in {shards} file{'s' * (shards > 1)} → {folder}"
    )
    return 0


def _descriptions(model, dtype: str) -> tuple[dict, dict]:
    """The contents of config.json and of generation_config.json."""
    from denoise_jax.interop.generation_config import write_generation_config
    from denoise_jax.interop.model_config import special_ids, write_model_config

    vocabulary, settings = model.vocabulary, model.config.generation
    hf_ids = vocabulary.hf_ids

    def token_id(name: str) -> int:
        index = vocabulary.piece_id(name)
        if index is None:
            raise ConfigError(f"generation names the token {name!r}, which the vocabulary does not have")
        return int(hf_ids[index])

    start_id = int(hf_ids[vocabulary.start_id])
    generation = write_generation_config(
        settings, token_id, special_ids(hf_ids), start_id, model.config.data.max_chunk_length
    )
    return write_model_config(model.config.model, hf_ids, generation, dtype), generation


def _write_weights(model, folder: Path, dtype: str, max_shard_bytes: int) -> tuple[int, int]:
    """Number of files written, and bytes of tensors."""
    import jax

    from denoise_jax.interop.safetensors_files import write
    from denoise_jax.interop.weights import tensor_sizes, tensors

    hf_ids = model.vocabulary.hf_ids
    sizes = tensor_sizes(model.config.model, len(hf_ids), dtype)
    made = tensors(jax.device_get(model.params), model.config.model, hf_ids, dtype)
    shards = write(folder, tracked("writing", len(sizes))(made), sizes, max_shard_bytes)
    return len(shards), sum(sizes.values())


def _write_json(file: Path, values: dict) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n")
