"""The files around the code: lock file, version, Makefile, and the content of the wheel."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, list[str]]:
    """Each package in requirements.txt with the lines of its entries, hashes included."""
    entries: dict[str, list[str]] = {}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if match := re.match(r"[A-Za-z0-9_.-]+(?===)", line):
            entries.setdefault(name := normalised(match[0]), [])
        if line and not line.lstrip().startswith("#"):
            entries[name].append(line)
    return entries


def test_lock_file_names_no_package_index():
    text = (ROOT / "requirements.txt").read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-", text.replace("    --hash=", "    hash="), re.MULTILINE)


def test_lock_file_pins_and_hashes_every_dependency():
    entries = locked()
    extras = PROJECT["optional-dependencies"]
    wanted = PROJECT["dependencies"] + extras["quickstart"] + extras["test"] + extras["dev"] + extras["build"]
    names = {normalised(re.match(r"[A-Za-z0-9_.-]+", requirement)[0]) for requirement in wanted}
    missing = names - entries.keys() - {"denoise-jax"}
    assert not missing, f"requirements.txt lacks {sorted(missing)}: run make lock"
    unhashed = [
        name for name, lines in entries.items() if not any("--hash=sha256:" in line for line in lines)
    ]
    assert not unhashed


def test_version_is_the_same_everywhere():
    assert f'\n__version__ = "{PROJECT["version"]}"\n' in (ROOT / "denoise_jax/__init__.py").read_text()
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_readme_and_makefile_agree_on_targets():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    mentioned = set(re.findall(r"\bmake ([a-z-]+)", " ".join(code_in((ROOT / "README.md").read_text()))))
    assert mentioned <= targets, f"targets missing from the Makefile: {sorted(mentioned - targets)}"
    missing = {"quickstart", "setup", "test"} - mentioned
    assert not missing, f"targets missing from the README: {sorted(missing)}"


def code_in(markdown: str) -> list[str]:
    """The fenced and inline code of a Markdown text."""
    return re.findall(r"^```.*?^```|`[^`\n]+`", markdown, re.MULTILINE | re.DOTALL)


def test_readme_shows_the_commands_of_make_quickstart():
    recipe = (ROOT / "Makefile").read_text().split("\nquickstart:")[1].split("\n\n")[0]
    commands = re.findall(r"^\t(denoise-jax (?:vocab|train|evaluate) .*)$", recipe, re.MULTILINE)
    missing = [command for command in commands if command not in (ROOT / "README.md").read_text()]
    assert commands
    assert not missing, f"commands of make quickstart missing from the README: {missing}"


@pytest.mark.slow
def test_wheel_contains_only_the_packages(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    folders = {name.split("/")[0] for name in names}
    allowed = {"denoise_jax", "tasks", "configs", "launch", f"denoise_jax-{PROJECT['version']}.dist-info"}
    assert {"denoise_jax/config.py", "denoise_jax/inspection/templates/noise.html.j2"} <= set(names)
    assert folders <= allowed, f"unexpected files in the wheel: {sorted(folders - allowed)}"
    assert any(name.endswith("licenses/LICENSE") for name in names)
