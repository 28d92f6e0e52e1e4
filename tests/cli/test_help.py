"""Help is there for every command, without loading a framework."""

import subprocess
import sys

import pytest

from denoise_jax.cli.main import COMMANDS

HEAVY = ("jax", "flax", "tensorflow", "seqio", "orbax", "matplotlib", "sentencepiece")


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=["denoise-jax", *COMMANDS])
def test_help_loads_no_framework(command, repository):
    program = (
        "import sys\n"
        "from denoise_jax.cli.main import main\n"
        "try: code = main(sys.argv[1:])\n"
        "except SystemExit as exit: code = exit.code\n"
        f"loaded = [name for name in {HEAVY} if name in sys.modules]\n"
        "sys.exit(code or (f'loaded {loaded}' if loaded else 0))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, *command, "--help"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "usage: denoise-jax" in result.stdout
