"""The device mesh, with axes `data`, `fsdp` and `tensor`."""

from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh

from denoise_jax.config import ParallelConfig
from denoise_jax.errors import ConfigError

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")  # the axes over which the rows of a batch are sharded


def make_mesh(config: ParallelConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh over `devices`, by default all of them.

    Raises:
      ConfigError: the product of the axes is not the number of devices, or `tensor` spans processes.
    """
    count = len(devices) if devices is not None else jax.device_count()
    others = config.fsdp * config.tensor
    data = config.data if config.data != -1 else max(count // others, 1)
    if data * others != count:
        raise ConfigError(
            f"parallel: data={config.data} x fsdp={config.fsdp} x tensor={config.tensor} does not match the "
            f"{count} available devices; set the axes so that their product is {count}"
        )
    # JAX's default is explicit axes; here the compiler propagates the shardings of sharding.py.
    axis_types = (AxisType.Auto,) * len(AXES)
    mesh = jax.make_mesh((data, config.fsdp, config.tensor), AXES, axis_types=axis_types, devices=devices)
    if any(len({device.process_index for device in group}) > 1 for row in mesh.devices for group in row):
        raise ConfigError(
            f"parallel.tensor={config.tensor} spans several processes, which read different rows; "
            "lower it to at most the devices of one process"
        )
    return mesh


def batch_shards(mesh: Mesh) -> int:
    """Number of shards into which the rows of a batch are split."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def padded_batch_size(mesh: Mesh, rows: int) -> int:
    """`rows` rounded up to a multiple of `batch_shards`."""
    shards = batch_shards(mesh)
    return -(-rows // shards) * shards


def check_batch(mesh: Mesh, rows: int, field: str) -> None:
    """ConfigError, naming `field`, unless `rows` is a multiple of `batch_shards`."""
    shards = batch_shards(mesh)
    if rows % shards:
        raise ConfigError(
            f"{field}: {rows} rows cannot be split evenly over {shards} devices (data x fsdp); "
            f"use a multiple of {shards}"
        )
