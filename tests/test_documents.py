"""The Markdown files: links resolve, command lines parse, named files exist, generated pages are current."""

import dataclasses
import importlib
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from denoise_jax.cli import arguments as cli
from denoise_jax.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob(".github/**/*.md")])
GUIDES = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]
PROGRAM = "denoise-jax "
SOURCE_FOLDERS = "denoise_jax|tasks|configs|benchmarks|tests|docs"


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def without_fences(markdown: str) -> str:
    return re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)


def fenced_lines(markdown: str) -> list[str]:
    """Lines of fenced blocks, with continuations joined."""
    fences = re.findall(r"^```\w*\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    return [line.strip() for line in "\n".join(fences).replace("\\\n", " ").splitlines()]


def inline_code(markdown: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", without_fences(markdown))


def links(markdown: str) -> list[str]:
    """Targets of links and images inside the repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", without_fences(markdown)))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(markdown: str) -> set[str]:
    """Fragments of the headings, as GitHub and MkDocs spell them."""
    headings = re.findall(r"^#+ (.*)$", without_fences(markdown), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def command_lines(code) -> list[tuple[str, str]]:
    """(document, command line without `denoise-jax`) for each that `code` finds in a document."""
    found = [(name_of(path), line) for path in GUIDES for line in code(path.read_text())]
    return [(name, line.removeprefix(PROGRAM)) for name, line in found if line.startswith(PROGRAM)]


def arguments_of(command: str) -> type:
    """The dataclass that parses the arguments of a sub-command."""
    module = importlib.import_module(f"denoise_jax.cli.{command}_command")
    return getattr(module, f"{command.title()}Arguments")


def flags_of(command: str) -> set[str]:
    """All flags of a sub-command, those of the configuration's fields included."""

    def flags(fields: dict[str, object], prefix: str) -> Iterator[str]:
        for name, annotation in fields.items():
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                section = {key: field.annotation for key, field in annotation.model_fields.items()}
                yield from flags(section, "" if name == "config" else f"{prefix}{name}.")
            else:
                yield f"--{prefix}{name}".replace("_", "-")

    arguments = dataclasses.fields(arguments_of(command))
    annotations = {field.name: getattr(field.type, "__origin__", field.type) for field in arguments}
    return {"--help", *flags(annotations, "")}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_inside_the_repository_resolve(path):
    broken = []
    for target in links(path.read_text()):
        file, _, anchor = target.partition("#")
        linked = path.parent / file if file else path
        if not linked.exists() or (anchor and anchor not in anchors(linked.read_text())):
            broken.append(target)
    assert not broken, f"{name_of(path)} links to {broken}"


def parse(command: str, *argv: str) -> None:
    """Parses arguments as the command does; UserError if that fails."""
    arguments = arguments_of(command)
    if command == "resume":  # reads the configuration of a run
        argv = ["quickstart", "--workdir", *argv]
    with_config = "config" in {field.name for field in dataclasses.fields(arguments)}
    (cli.parse_with_config if with_config else cli.parse)(arguments, argv, command)


@pytest.mark.parametrize(("name", "line"), command_lines(fenced_lines))
def test_command_lines_of_code_blocks_parse(name, line):
    parse(*shlex.split(line, comments=True))


def test_code_blocks_have_an_example_of_every_command():
    assert {line.split()[0] for _, line in command_lines(fenced_lines)} >= set(COMMANDS)


@pytest.mark.parametrize(("name", "line"), command_lines(inline_code))
def test_command_lines_in_text_name_commands_and_flags_that_exist(name, line):
    """These may have placeholders, such as COMMAND and [--section.field VALUE]."""
    command, *arguments = line.split()
    if command in ("COMMAND", "--help", "--version"):
        return
    flags = {match[0] for argument in arguments if (match := re.search(r"--[a-z][\w.-]*", argument))}
    unknown = flags - flags_of(command) - {"--section.field"}
    assert not unknown, f"{name}: `denoise-jax {line}`"


def test_every_flag_of_commands_is_documented():
    documented = (ROOT / "docs/commands.md").read_text() + (ROOT / "docs/configuration.md").read_text()
    missing = []
    for command in COMMANDS:
        flags = {flag for flag in flags_of(command) if "." not in flag} - {"--help"}
        words = {flag.removeprefix("--").replace("-", "_") for flag in flags}
        positional = {"configuration", "config", "run", "folder", "text", "texts", "files"}
        missing += [
            f"{command} --{word.replace('_', '-')}"
            for word in sorted(words - positional)
            if f"--{word.replace('_', '-')}" not in documented and f"`{word}`" not in documented
        ]
    assert not missing, f"docs/commands.md lacks {missing}"


def test_files_that_documents_name_exist():
    pattern = re.compile(rf"\b(?:{SOURCE_FOLDERS})/[\w/]*(?:/|\.(?:py|md|sh|svg|png)\b)")
    missing = {
        f"{name_of(path)} names {file}"
        for path in GUIDES
        for file in pattern.findall(path.read_text())
        if not (ROOT / file).exists()
    }
    assert not missing, "\n".join(sorted(missing))


@pytest.mark.parametrize("name", ["configuration", "files"])
def test_generated_pages_are_up_to_date(name):
    page = runpy.run_path(str(ROOT / f"docs/{name}.py"))["page"]()
    assert (ROOT / f"docs/{name}.md").read_text() == page, f"run `python docs/{name}.py`"


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text().split("\nnav:")[1].split("\n\n")[0]
    listed = set(re.findall(r"[\w/]+\.md", navigation))
    assert listed == {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}


def test_pages_link_only_to_pages():
    """MkDocs publishes docs/ alone: a link to a file outside of it would be broken on the site."""
    outside = [
        f"{name_of(path)}: {target}"
        for path in ROOT.glob("docs/**/*.md")
        for target in links(path.read_text())
        if not (path.parent / target.partition("#")[0]).resolve().is_relative_to(ROOT / "docs")
    ]
    assert not outside


def test_readme_is_short():
    lines = len((ROOT / "README.md").read_text().splitlines())
    assert lines <= 150, f"README.md has {lines} lines: move reference material to docs/"
