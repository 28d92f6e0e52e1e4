"""Sets, before any framework is imported: eight CPU devices, strict JAX, a quiet TensorFlow. Imports neither.

Fixtures for one room belong in the conftest.py of that room's folder of tests; here is what many need.
"""

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import hypothesis
import pytest

# What the user's shell had, for tests that run the console script as a user does.
USER_ENVIRONMENT: Mapping[str, str] = dict(os.environ)

if "--xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    os.environ["XLA_FLAGS"] = flags.strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # JAX_PLATFORMS=tpu pytest -m tpu
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

# The first example often pays for a compilation, so no deadline; the same examples on every machine.
hypothesis.settings.register_profile("denoise_jax", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("denoise_jax")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root folder of the repository."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def run_command(repository: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command as a user does, in the user's own environment; returns its result with the text printed.

    run_command("denoise-jax", "--help", cwd=..., timeout=60, environment={"JAX_PLATFORMS": "cpu"})
    """

    def run(*command: str, cwd: Path = repository, timeout: float = 300, environment: Mapping[str, str] = {}):
        return subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            timeout=timeout,
            env={**USER_ENVIRONMENT, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run
