"""The README's Python lines run as they are printed, with fewer steps of a smaller model."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALLER = """.replace(
    model={"embed_dim": 32, "num_heads": 2, "ffn_dim": 64, "num_encoder_layers": 1, "num_decoder_layers": 1},
    optimizer={"warmup_steps": 2},
    training={"num_steps": 4, "evaluate_every": 0},
)"""


def python_lines() -> str:
    """The Python block of the README that imports the library."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if "import denoise_jax as dj" in block]
    return block


@pytest.mark.slow
def test_the_python_lines_of_the_readme_do_what_the_quick_start_does(tmp_path):
    lines = python_lines()
    configured = 'dj.load_config("quickstart")'
    assert lines.count(configured) == 1
    program = lines.replace(configured, configured + SMALLER)
    one_device = {**os.environ, "XLA_FLAGS": ""}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=one_device, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    run = tmp_path / "runs/quickstart"
    hidden_accuracy = json.loads((run / "eval/4.json").read_text())["hidden_accuracy"]
    assert str(hidden_accuracy) in done.stdout.splitlines()
    assert (run / "plots/loss.png").is_file()
