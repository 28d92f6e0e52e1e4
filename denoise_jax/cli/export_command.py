"""`denoise-jax export RUN FOLDER`: writes a checkpoint as a folder for Hugging Face Transformers."""

import dataclasses
from typing import Literal

import tyro

from denoise_jax.cli.arguments import parse
from denoise_jax.cli.terminal import counter, quiet


@dataclasses.dataclass(frozen=True)
class ExportArguments:
    """Writes a checkpoint as a folder for Hugging Face Transformers: MBart if pre-norm, otherwise Bart."""

    run: tyro.conf.Positional[str]
    """Folder of a run, or of one checkpoint."""
    folder: tyro.conf.Positional[str]
    """Folder to write."""
    step: int | None = None
    """Checkpoint to export; default: the newest."""
    max_shard_size: float = 5.0
    """Size in GB (10^9 bytes) above which the weights are split over several files."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Dtype of the exported tensors; float32 is exact."""


def main(argv: list[str]) -> int:
    """Writes the folder, completely or not at all, and prints what it contains."""
    arguments = parse(ExportArguments, argv, "export")
    with quiet():
        from denoise_jax.interop.export_folder import export_folder

    with counter("writing") as progress:
        summary = export_folder(**vars(arguments), progress=progress)
    files = summary.num_weight_files
    print(
        f"{summary.architecture} of step {summary.step}, {summary.vocab_size:,} tokens, "
        f"{summary.num_bytes / 1e6:,.1f} MB of {summary.dtype} in {files} file{'s' * (files > 1)} "
        f"→ {summary.folder}"
    )
    return 0
