"""Every command has help, which is quick to print: no framework is loaded."""

import subprocess
import sys

import pytest

from configs import quickstart
from denoise_jax.cli.main import COMMANDS, main
from denoise_jax.config import Config

FRAMEWORKS = ("jax", "flax", "tensorflow", "seqio", "orbax", "matplotlib", "sentencepiece")
PROGRAM = f"""
import sys
from denoise_jax.cli.main import main

def print_help(*arguments):
    try:
        return main([*arguments, "--help"])
    except SystemExit as exit:
        return exit.code

assert not print_help()
for command in sys.argv[1:]:
    assert not print_help(command)
    loaded = [name for name in {FRAMEWORKS} if name in sys.modules]
    assert not loaded, f"{{command}} --help loads {{loaded}}"
"""


def test_help_loads_no_framework(repository):
    command = [sys.executable, "-c", PROGRAM, *COMMANDS]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for name in COMMANDS:
        assert f"usage: denoise-jax {name} [-h]" in result.stdout


def test_help_of_train_lists_every_field_with_its_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "CONFIGURATION A name in configs/" in words
    for section, values in quickstart.config().model_dump().items():
        for field, value in values.items() if isinstance(values, dict) else ():
            flag = f"--{section}.{field}".replace("_", "-")
            assert flag in words
            description = Config.model_fields[section].annotation.model_fields[field].description
            assert description in words, flag
            if isinstance(value, int | float | str):
                assert f"(default: {value})" in words.partition(flag)[2].partition(" --")[0], flag
