"""Published peaks of accelerators: what utilisation is measured against, and what plans are made with."""

import dataclasses

import jax


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device as JAX counts them. Sources: the vendors' specification pages."""

    name: str
    flops: float  # per second, bfloat16, dense
    memory: float  # bytes
    memory_bandwidth: float  # bytes per second
    link_bandwidth: float = 0.0  # bytes per second, one link to a neighbour, one direction
    torus_axes: int = 0
    network_bandwidth: float = 0.0  # bytes per second and chip, between slices
    clock: float = 0.0  # Hz; from the peak and the number of multipliers


_GIB = 2**30
# By the name that a TPU topology has ("v5e:4x4").
TPUS = {
    "v4": Chip("TPU v4", 275e12, 32 * _GIB, 1228e9, 45e9, 3, 3.1e9, 1.05e9),
    "v5e": Chip("TPU v5e", 197e12, 16 * _GIB, 819e9, 45e9, 2, 3.1e9, 1.5e9),
    "v5p": Chip("TPU v5p", 459e12, 95 * _GIB, 2765e9, 90e9, 3, 6.2e9, 1.75e9),
    "v6e": Chip("TPU v6e", 918e12, 32 * _GIB, 1640e9, 90e9, 2, 12.5e9, 1.75e9),
    # Half a chip: JAX sees the two dies of a TPU7x as two devices.
    "tpu7x": Chip("TPU7x", 1153e12, 96 * _GIB, 3690e9, 90e9, 3, 12.5e9, 2.0e9),
}
_GPUS = (
    Chip("NVIDIA H200", 989e12, 141e9, 4.8e12),
    Chip("NVIDIA H100", 989e12, 80e9, 3.35e12),
    Chip("NVIDIA A100", 312e12, 80e9, 2.0e12),
    Chip("NVIDIA L4", 121e12, 24e9, 0.3e12),
)
_TPU_KINDS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
    "TPU7x": "tpu7x",
}


def chip_of(device: jax.Device) -> Chip | None:
    """The chip of a device, or None if it is not in the table: a CPU, or new hardware."""
    if device.device_kind in _TPU_KINDS:
        return TPUS[_TPU_KINDS[device.device_kind]]
    return next((chip for chip in _GPUS if device.device_kind.startswith(chip.name)), None)
