"""The device mesh, with axes `data`, `fsdp` and `tensor`."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from denoise_jax.config import ParallelConfig
from denoise_jax.errors import ConfigError

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")  # the axes over which the rows of a batch are sharded


def make_mesh(config: ParallelConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh over `devices`, by default all of them.

    Raises:
      ConfigError: the product of the axes is not the number of devices, `tensor` spans processes, or `fsdp`
        and `tensor` do not fit into a TPU slice.
    """
    count = len(devices) if devices is not None else jax.device_count()
    others = config.fsdp * config.tensor
    data = config.data if config.data != -1 else max(count // others, 1)
    if data * others != count:
        raise ConfigError(
            f"parallel: data={config.data} x fsdp={config.fsdp} x tensor={config.tensor} does not match the "
            f"{count} available devices; set the axes so that their product is {count}"
        )
    shape = data, config.fsdp, config.tensor
    arranged = _arranged(shape, jax.devices() if devices is None else devices)
    if _spans_processes(arranged):
        raise ConfigError(
            f"parallel.tensor={config.tensor} spans several processes, which read different rows; "
            "lower it to at most the devices of one process"
        )
    # JAX's default is explicit axes; here the compiler propagates the shardings of sharding.py.
    return Mesh(arranged, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _arranged(shape: tuple[int, int, int], devices: Sequence[jax.Device]) -> np.ndarray:
    """Devices [data, fsdp, tensor]: on TPUs, neighbours in the torus along `fsdp` and `tensor`.

    Of several TPU slices, only `data` crosses the slow network between them.
    """
    slices = len({_slice(device) for device in devices})
    if slices == 1:
        arranged = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    elif shape[0] % slices:
        raise ConfigError(
            f"parallel.data={shape[0]} is not a multiple of the {slices} slices, so fsdp x tensor does not "
            "fit into one slice; lower parallel.fsdp or parallel.tensor"
        )
    else:
        within = shape[0] // slices, *shape[1:]
        arranged = mesh_utils.create_hybrid_device_mesh(
            within, (slices, 1, 1), devices, allow_split_physical_axes=True
        )
    if _spans_processes(arranged):
        # JAX lays four devices in a line, but the four chips of a host are a square of the torus.
        by_host = sorted(devices, key=lambda device: (_slice(device), device.process_index, device.id))
        arranged = np.array(by_host).reshape(shape)
    return arranged


def _slice(device: jax.Device) -> int:
    return getattr(device, "slice_index", 0)


def _spans_processes(arranged: np.ndarray) -> bool:
    """Whether a group of devices along `tensor` belongs to several processes."""
    return any(len({device.process_index for device in group}) > 1 for row in arranged for group in row)


def batch_shards(mesh: Mesh) -> int:
    """Number of shards into which the rows of a batch are split."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def padded_batch_size(mesh: Mesh, rows: int, data_shards: int = 1) -> int:
    """`rows` rounded up to a multiple of `batch_shards` and of `data_shards`."""
    multiple = math.lcm(batch_shards(mesh), data_shards)
    return -(-rows // multiple) * multiple


def check_batch(mesh: Mesh, rows: int, field: str) -> None:
    """ConfigError, naming `field`, unless `rows` is a multiple of `batch_shards`."""
    shards = batch_shards(mesh)
    if rows % shards:
        raise ConfigError(
            f"{field}: {rows} rows cannot be split evenly over {shards} devices (data x fsdp); "
            f"use a multiple of {shards}"
        )
