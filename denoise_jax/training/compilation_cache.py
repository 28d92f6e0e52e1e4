"""Compiled programs kept on disk, so that a run that is started again need not compile again."""

import hashlib
from pathlib import Path

import jax

FOLDER = ".compilation_cache"


def use_compilation_cache(run: Path, folder: str | Path | None = None) -> None:
    """Keeps the programs compiled from now on in `folder`, by default beside the run, for all runs there.

    What is set already, by JAX_COMPILATION_CACHE_DIR or in JAX's configuration, is left as it is. To be
    called once the devices are known.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    chosen = Path(folder) if folder is not None else run.parent / FOLDER
    if jax.default_backend() == "cpu":
        # A program for one CPU may use instructions that another lacks, and JAX does not tell them apart.
        chosen = chosen / f"cpu-{_cpu_features()}"
    jax.config.update("jax_compilation_cache_dir", str(chosen))


def _cpu_features() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(features.encode()).hexdigest()[:8]
