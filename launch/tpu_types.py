"""Accelerator types of Cloud TPU: chips, hosts and runtime versions, so that a typo costs nothing.

Sources: the pages on v4, v5e, v5p and v6e of Google's Cloud TPU documentation. v4 and v5p are named by
TensorCores, two for each chip. TPU7x is not served by the Cloud TPU API: use GKE.
"""

import dataclasses
import difflib
import re


class LaunchError(ValueError):
    """A mistake that the user can fix, in one line."""


@dataclasses.dataclass(frozen=True)
class Generation:
    """What all accelerator types of a generation have in common."""

    name: str
    prefix: str  # of accelerator types
    cores_per_chip: int  # that the number in the accelerator type counts
    largest: int  # chips of a slice
    single_host: tuple[int, ...]  # numbers of chips that one host has
    runtime_version: str


GENERATIONS = (
    Generation("v4", "v4", 2, 4096, (4,), "tpu-ubuntu2204-base"),
    Generation("v5e", "v5litepod", 1, 256, (1, 4, 8), "v2-alpha-tpuv5-lite"),
    Generation("v5p", "v5p", 2, 8960, (4,), "v2-alpha-tpuv5"),
    Generation("v6e", "v6e", 1, 256, (1, 4, 8), "v2-alpha-tpuv6e"),
)
CHIPS_PER_HOST = 4  # of slices with several hosts


@dataclasses.dataclass(frozen=True)
class Slice:
    """One slice of a TPU."""

    generation: Generation
    accelerator_type: str  # as gcloud spells it
    chips: int
    hosts: int


def parse_accelerator_type(name: str) -> Slice:
    """The slice called `name`, such as v5litepod-16, v5e-16 or v6e-256.

    Raises:
      LaunchError: no such generation or size; similar names are listed.
    """
    known = {generation.prefix: generation for generation in GENERATIONS}
    known |= {generation.name: generation for generation in GENERATIONS}
    match = re.fullmatch(r"([a-z0-9]+)-(\d+)", name)
    if match is None or match[1] not in known:
        if name.startswith(("tpu7x", "v7", "7x")):
            raise LaunchError(f"--type {name}: TPU7x is not served by the Cloud TPU API; use launch.gke")
        close = difflib.get_close_matches(name.partition("-")[0], known, n=2) or sorted(known)
        examples = " or ".join(f"{known_name}-16" for known_name in close)
        raise LaunchError(f"--type {name} is not known; use {examples}, for example")
    generation, number = known[match[1]], int(match[2])
    chips, rest = divmod(number, generation.cores_per_chip)
    multi_host = chips > max(generation.single_host) and chips % CHIPS_PER_HOST == 0
    if generation.cores_per_chip == 1:  # two-dimensional tori
        multi_host = multi_host and chips.bit_count() == 1
    if rest or chips > generation.largest or not (chips in generation.single_host or multi_host):
        sizes = [n * generation.cores_per_chip for n in (*generation.single_host, 16, 32, 64, 128, 256)]
        raise LaunchError(
            f"--type {name}: {generation.name} has no slice of this size; the usual ones are "
            + ", ".join(f"{generation.prefix}-{size}" for size in dict.fromkeys(sizes))
        )
    hosts = 1 if chips in generation.single_host else chips // CHIPS_PER_HOST
    return Slice(generation, f"{generation.prefix}-{number}", chips, hosts)
