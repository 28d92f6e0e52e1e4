"""`denoise-jax generate RUN TEXT...`: fills in masks, or writes what a fine-tuned model learnt to write."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import ValidationError

from denoise_jax.cli.arguments import check_utf8, parse
from denoise_jax.cli.terminal import counter, quiet
from denoise_jax.config import GenerationConfig
from denoise_jax.control_characters import escape_controls
from denoise_jax.errors import UserError
from denoise_jax.files import write_atomically
from denoise_jax.named_configs import explain


@dataclasses.dataclass(frozen=True)
class _Arguments:
    """Restores texts in which <mask> stands for missing words; fine-tuned and imported ones take any text."""

    run: tyro.conf.Positional[str]
    """Folder of a run, or of one checkpoint."""
    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Texts with <mask>, or prompts."""
    file: str | None = None
    """File of prompts instead: one a line, or .jsonl with an object {"text": ...} a line."""
    output: str | None = None
    """File that receives a line of JSON for each prompt."""
    batch_size: int = 32
    """Prompts that go through the model together."""
    step: int | None = None
    """Checkpoint to use; default: the newest."""
    allow_no_mask: bool = False
    """Accept texts without <mask> for a model that learnt to fill masks, and restore them as they are."""
    json: bool = False
    """Print JSON instead of text."""


def _option(name: str) -> tuple:
    """A field of GenerationConfig as a flag that may be left out."""
    field = GenerationConfig.model_fields[name]
    help_text = tyro.conf.arg(help=field.description)
    return name, Annotated[field.annotation | None, help_text], dataclasses.field(default=None)


GenerateArguments = dataclasses.make_dataclass(
    "GenerateArguments", map(_option, GenerationConfig.model_fields), bases=(_Arguments,), frozen=True
)
GenerateArguments.__doc__ = _Arguments.__doc__


def main(argv: list[str]) -> int:
    """Prints each text and what the model writes for it, or writes them to a file."""
    arguments = parse(GenerateArguments, argv, "generate")
    texts, name = _texts(arguments)
    if arguments.batch_size < 1:
        raise UserError(f"--batch-size {arguments.batch_size} must be at least 1")
    if arguments.output is not None and not Path(arguments.output).absolute().parent.is_dir():
        raise UserError(f"--output {arguments.output}: there is no such folder")
    with quiet():
        from denoise_jax.generation.fill import check_texts, denoises, fill
        from denoise_jax.runs.load_model import load_model

    check_texts(texts, masks=False, name=name)
    model = load_model(arguments.run, arguments.step)
    check_texts(texts, masks=denoises(model.config) and not arguments.allow_no_mask, name=name)
    options = _options(arguments, model.config.generation)
    with counter("prompts", len(texts), shown=arguments.file is not None) as advance:
        written = fill(model, texts, options, batch_size=arguments.batch_size, progress=advance)
    for number, outputs in enumerate(written, 1):
        if not outputs[0].complete:
            told = f"{name} {number} was cut at the longest output, before its end"
            print(f"denoise-jax: {told}", file=sys.stderr)
    pairs = list(zip(texts, written, strict=True))
    if arguments.output is not None:
        lines = [json.dumps(_entry(*pair), ensure_ascii=False) + "\n" for pair in pairs]
        write_atomically(Path(arguments.output), "".join(lines))
        print(f"{len(texts)} prompts answered in {arguments.output}", file=sys.stderr)
    elif arguments.json:
        entries = [{"text": text, "filled": outputs[0].text, **_others(outputs)} for text, outputs in pairs]
        print(json.dumps(entries, indent=2))
    else:
        print("\n\n".join(_shown(text, outputs) for text, outputs in pairs))
    return 0


def _texts(arguments) -> tuple[list[str], str]:
    """The prompts, and what errors call one of them before its number."""
    if bool(arguments.texts) == (arguments.file is not None):
        raise UserError("generate: give at least one text with <mask>, or --file PROMPTS, and not both")
    if arguments.file is None:
        for number, text in enumerate(arguments.texts, 1):
            check_utf8(f"generate: text {number}", text)
        return list(arguments.texts), "text"
    name = f"{arguments.file}, line"
    # By \n alone: splitlines() would cut at rarer separators too, which may stand in JSON and in texts.
    lines = Path(arguments.file).read_bytes().removesuffix(b"\n").split(b"\n")
    texts = []
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode().removesuffix("\r")
        except UnicodeDecodeError as error:
            wrong = f"byte {error.start + 1} is 0x{line[error.start]:02x}"
            raise UserError(f"{name} {number} is not UTF-8: {wrong}; convert it first") from None
        texts.append(_json_text(text, f"{name} {number}") if arguments.file.endswith(".jsonl") else text)
    return texts, name


def _json_text(line: str, where: str) -> str:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON: {error}") from None
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise UserError(f'{where} is no object with a "text" that is a string: {line[:80]}')
    check_utf8(where, text)
    return text


def _options(arguments, options: GenerationConfig) -> GenerationConfig:
    """The run's options, changed by the flags that are given."""
    given = {name: getattr(arguments, name) for name in GenerationConfig.model_fields}
    changed = {name: value for name, value in given.items() if value is not None}
    try:
        return GenerationConfig.model_validate({**options.model_dump(), **changed})
    except ValidationError as error:
        raise UserError(f"generation: {explain(error)}") from None


def _entry(text: str, outputs: Sequence) -> dict:
    return {"text": text, "outputs": [output._asdict() for output in outputs]}


def _others(outputs: Sequence) -> dict:
    """All outputs, where there are several."""
    return {"outputs": [output._asdict() for output in outputs]} if len(outputs) > 1 else {}


def _shown(text: str, outputs: Sequence) -> str:
    return "\n".join([escape_controls(text), *(f"→ {escape_controls(output.text)}" for output in outputs)])
