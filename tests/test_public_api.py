"""`import denoise_jax` is quick, and gives every public function."""

import subprocess
import sys

import pytest

import denoise_jax

FRAMEWORKS = ("jax", "flax", "tensorflow", "seqio", "orbax", "sentencepiece", "pydantic", "numpy")


def test_import_loads_no_framework():
    program = f"import sys, denoise_jax; sys.exit([f for f in {FRAMEWORKS} if f in sys.modules] or 0)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", denoise_jax.__all__)
def test_every_public_name_resolves(name):
    """Also where a submodule shares the name, such as denoise_jax.generation.generate."""
    found = getattr(denoise_jax, name)
    assert isinstance(found, str) if name == "__version__" else callable(found)
    assert name in dir(denoise_jax)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'denoise_jax' has no attribute 'trian'"):
        _ = denoise_jax.trian
