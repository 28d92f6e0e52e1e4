"""`denoise-jax generate RUN TEXT...`: fills in masks, or answers prompts with a fine-tuned model."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from denoise_jax.cli.arguments import check_utf8, parse
from denoise_jax.cli.process_arguments import ProcessArguments
from denoise_jax.cli.terminal import counter, quiet
from denoise_jax.config import GenerationConfig
from denoise_jax.control_characters import escape_controls
from denoise_jax.errors import UserError
from denoise_jax.files import write_atomically
from denoise_jax.paths import is_remote, to_path


@dataclasses.dataclass(frozen=True)
class _Arguments(ProcessArguments):
    """Fills in the masks of texts. Fine-tuned and imported models take any prompt."""

    run: tyro.conf.Positional[str]
    """Folder of a run or of a checkpoint."""
    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Texts with <mask>, or prompts."""
    file: str | None = None
    """File of prompts instead: one per line or, in a .jsonl file, one object {"text": ...} per line."""
    output: str | None = None
    """File to write: one JSON object per prompt and line."""
    batch_size: int = 32
    """Prompts per batch."""
    step: int | None = None
    """Checkpoint to use; default: the newest."""
    allow_no_mask: bool = False
    """Accept texts without <mask> even if the model has only been trained to denoise."""
    json: bool = False
    """Print JSON instead of text."""


def _flag(name: str) -> tuple:
    """A dataclass field for a field of GenerationConfig; None: the value of the run."""
    field = GenerationConfig.model_fields[name]
    help_text = tyro.conf.arg(help=field.description)
    return name, Annotated[field.annotation | None, help_text], dataclasses.field(default=None)


GenerateArguments = dataclasses.make_dataclass(
    "GenerateArguments", map(_flag, GenerationConfig.model_fields), bases=(_Arguments,), frozen=True
)
GenerateArguments.__doc__ = _Arguments.__doc__


def _check_output(file: Path) -> None:
    if not is_remote(file) and not file.absolute().parent.is_dir():
        raise UserError(f"--output {file}: its folder does not exist")


def main(argv: list[str]) -> int:
    """Prints each text and its outputs, or writes them to --output."""
    arguments = parse(GenerateArguments, argv, "generate")
    texts, name = _read_texts(arguments)
    if arguments.output is not None:
        _check_output(to_path(arguments.output))
    arguments.connect()
    with quiet():
        from denoise_jax.generation.generate import generate
        from denoise_jax.generation.prompts import PromptError
        from denoise_jax.parallel.processes import is_first

    flags = {field: getattr(arguments, field) for field in GenerationConfig.model_fields}
    with counter("prompts", len(texts), shown=arguments.file is not None) as advance:
        try:
            generated = generate(
                arguments.run,
                texts,
                step=arguments.step,
                batch_size=arguments.batch_size,
                allow_no_mask=arguments.allow_no_mask,
                progress=advance,
                **{field: value for field, value in flags.items() if value is not None},
            )
        except PromptError as error:
            raise UserError(f"{name} {error.index + 1} {error.problem}") from None
    if not is_first():
        return 0
    for number, outputs in enumerate(generated, 1):
        if not outputs[0].complete:
            print(f"denoise-jax: {name} {number}: output truncated at max_new_tokens", file=sys.stderr)
    _show(list(zip(texts, generated, strict=True)), arguments)
    return 0


def _read_texts(arguments) -> tuple[list[str], str]:
    """The prompts, and what to call one in errors, before its number."""
    if bool(arguments.texts) == (arguments.file is not None):
        raise UserError("generate: give either texts with <mask> or --file PROMPTS")
    if arguments.file is None:
        for number, text in enumerate(arguments.texts, 1):
            check_utf8(f"generate: text {number}", text)
        return list(arguments.texts), "text"
    name = f"{arguments.file}, line"
    # Not splitlines(), which also splits at rarer separators, and these may occur in JSON and in texts.
    lines = to_path(arguments.file).read_bytes().removesuffix(b"\n").split(b"\n")
    texts = []
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode().removesuffix("\r")
        except UnicodeDecodeError as error:
            problem = f"byte {error.start + 1} is 0x{line[error.start]:02x}"
            raise UserError(f"{name} {number} is not UTF-8: {problem}; convert the file to UTF-8") from None
        texts.append(_json_text(text, f"{name} {number}") if arguments.file.endswith(".jsonl") else text)
    return texts, name


def _json_text(line: str, where: str) -> str:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON: {error}") from None
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise UserError(f'{where} is not a JSON object with a string "text": {line[:80]}')
    check_utf8(where, text)
    return text


def _show(pairs: Sequence[tuple[str, Sequence]], arguments) -> None:
    """Prints (text, outputs) pairs, or writes them to --output."""
    if arguments.output is not None:
        lines = [json.dumps(_entry(*pair), ensure_ascii=False) + "\n" for pair in pairs]
        write_atomically(to_path(arguments.output), "".join(lines))
        print(f"wrote the outputs of {len(pairs)} prompts to {arguments.output}", file=sys.stderr)
    elif arguments.json:
        entries = []
        for text, outputs in pairs:
            all_outputs = _entry(text, outputs) if len(outputs) > 1 else {}
            entries.append({"text": text, "filled": outputs[0].text, **all_outputs})
        print(json.dumps(entries, indent=2))
    else:
        blocks = [
            "\n".join([escape_controls(text), *(f"→ {escape_controls(output.text)}" for output in outputs)])
            for text, outputs in pairs
        ]
        print("\n\n".join(blocks))


def _entry(text: str, outputs: Sequence) -> dict:
    return {"text": text, "outputs": [output._asdict() for output in outputs]}
