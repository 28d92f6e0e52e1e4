"""TPU slices that are described by name, such as `v5e:16x16`, without the hardware."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence

import jax

from denoise_jax.errors import ConfigError, nearest
from denoise_jax.parallel.chips import TPUS, Chip

_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")  # of v5e and v6e
# What keeps libtpu from asking for hardware, and from locking out other processes that do the same.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def chip_of_topology(topology: str) -> Chip:
    """The chip that a topology consists of; ConfigError if the name cannot be one."""
    generation, _, shape = topology.partition(":")
    if generation not in TPUS:
        raise ConfigError(f"topology {topology!r}: {nearest(generation, TPUS)}, as in v5e:16x16")
    chip = TPUS[generation]
    if not re.fullmatch(r"\d+(x\d+)*", shape) or shape.count("x") + 1 != chip.torus_axes:
        axes = "x".join(["4"] * chip.torus_axes)
        raise ConfigError(f"topology {topology!r}: give {chip.torus_axes} sizes, as in {generation}:{axes}")
    if chip.torus_axes == 2 and shape not in _FLAT:
        raise ConfigError(f"topology {topology!r}: {chip.name} slices are {', '.join(_FLAT)}")
    return chip


def topology_devices(topology: str, slices: int = 1) -> Sequence[jax.Device]:
    """Descriptions of the devices of `slices` TPU slices, for which JAX can compile.

    Raises:
      ConfigError: no such topology, or libtpu is not installed.
    """
    chip_of_topology(topology)
    if slices < 1:
        raise ConfigError(f"slices={slices}: give 1 or more")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _probe(topology, slices)
    return _describe(topology, slices)


def _describe(topology: str, slices: int) -> Sequence[jax.Device]:
    from jax.experimental import topologies

    options = {}
    if topology.endswith(":1x1"):
        options["chips_per_host_bounds"] = (1, 1, 1)
    if topology.startswith("v4:"):
        options["chip_config_name"] = "megacore"
    if slices > 1:
        options["num_slices"] = slices
    return topologies.get_topology_desc(topology, platform="tpu", **options).devices


def _probe(topology: str, slices: int) -> None:
    """ConfigError if libtpu does not know the topology. It ends the process for some: so in another one."""
    code = f"from denoise_jax.planning import topologies; topologies._describe({topology!r}, {slices})"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode == 0:
        return
    if "TPU support not installed" in result.stderr:
        raise ConfigError(
            "compiling for TPUs needs libtpu, but no TPU; install it by `make setup-tpu` or the extra `tpu`"
        )
    lines = [line for line in result.stderr.splitlines() if "Error" in line or "Check failed" in line]
    reason = lines[-1].strip()[:200] if lines else f"libtpu ended with status {result.returncode}"
    raise ConfigError(f"topology {topology!r} with {slices} slice(s): {reason}")
