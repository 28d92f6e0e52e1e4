"""`denoise-jax import HF_FOLDER RUN`: turns a BART or mBART folder from Hugging Face into a run."""

import dataclasses
import sys

import tyro

from denoise_jax.cli.arguments import parse
from denoise_jax.cli.terminal import counter, quiet


@dataclasses.dataclass(frozen=True)
class ImportArguments:
    """Turns a BART or mBART folder from Hugging Face into a run, to generate with or to train from.

    The run has one checkpoint, at step 0, without optimizer state. To train from it, start a run in another
    folder with --training.init-from RUN.
    """

    folder: tyro.conf.Positional[str]
    """Folder with config.json, the tokenizer, and model.safetensors or its shards."""
    run: tyro.conf.Positional[str]
    """Folder to write."""
    resize_vocabulary: bool = False
    """If embedding and tokenizer differ in size: drop rows without a token; a token without a row gets the
    mean of all rows."""


def main(argv: list[str]) -> int:
    """Writes the run, completely or not at all, and prints what it contains."""
    arguments = parse(ImportArguments, argv, "import")
    with quiet():
        from denoise_jax.interop.import_folder import import_folder

    with counter("reading") as progress:
        summary = import_folder(
            arguments.folder,
            arguments.run,
            resize_vocabulary=arguments.resize_vocabulary,
            progress=progress,
        )
    for note in summary.notes:
        print(f"denoise-jax: {note}", file=sys.stderr)
    model = summary.config.model
    print(
        f"{summary.model_type}: {summary.num_parameters:,} parameters, {model.vocab_size:,} tokens, "
        f"{model.max_positions:,} positions, computes in {model.compute_dtype} → {summary.run}"
    )
    return 0
