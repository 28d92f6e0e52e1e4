"""`denoise-jax generate RUN "text with <mask>"`: fills in the masks."""

import dataclasses
import json
import sys

import tyro

from denoise_jax.cli.arguments import check_utf8, parse
from denoise_jax.cli.terminal import quiet
from denoise_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class GenerateArguments:
    """Restores texts in which <mask> stands for missing words, by greedy decoding."""

    run: tyro.conf.Positional[str]
    """Folder of a run, or of one checkpoint."""
    texts: tyro.conf.Positional[tuple[str, ...]]
    """Texts with <mask>."""
    step: int | None = None
    """Checkpoint to use; default: the newest."""
    max_length: int | None = None
    """Longest output in tokens; default: the longest piece that the run was trained on."""
    allow_no_mask: bool = False
    """Accept texts without <mask>, and restore them as they are."""
    json: bool = False
    """Print JSON instead of text."""


def main(argv: list[str]) -> int:
    """Prints each text and its restoration."""
    arguments = parse(GenerateArguments, argv, "generate")
    if not arguments.texts:
        raise UserError("generate: give at least one text with <mask>")
    for number, text in enumerate(arguments.texts, 1):
        check_utf8(f"generate: text {number}", text)
    with quiet():
        from denoise_jax.evaluation.fill import check_texts, fill
        from denoise_jax.evaluation.load import load_model

    check_texts(arguments.texts, arguments.allow_no_mask)
    model = load_model(arguments.run, arguments.step)
    filled, ended = fill(model, arguments.texts, max_length=arguments.max_length)
    for number, whole in enumerate(ended, 1):
        if not whole:
            print(
                f"denoise-jax: text {number} was cut at the longest output, before its end", file=sys.stderr
            )
    pairs = list(zip(arguments.texts, filled, strict=True))
    if arguments.json:
        print(json.dumps([{"text": text, "filled": result} for text, result in pairs], indent=2))
    else:
        print("\n\n".join(f"{text}\n→ {result}" for text, result in pairs))
    return 0
