"""The mesh of devices: axes `data`, `fsdp` and `tensor`."""

from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh

from denoise_jax.config import ParallelConfig
from denoise_jax.errors import ConfigError

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")  # axes whose devices see different rows of a batch


def make_mesh(config: ParallelConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Mesh over `devices`, all by default; ConfigError if the axes do not multiply to their number."""
    count = len(devices) if devices is not None else jax.device_count()
    others = config.fsdp * config.tensor
    data = config.data if config.data != -1 else max(count // others, 1)
    if data * others != count:
        raise ConfigError(
            f"parallel.data={config.data} x fsdp={config.fsdp} x tensor={config.tensor} does not make the "
            f"{count} devices here; set the axes so that their product is {count}"
        )
    # JAX's default is explicit axes; here the compiler propagates layouts from the table in sharding.py.
    axis_types = (AxisType.Auto,) * len(AXES)
    mesh = jax.make_mesh((data, config.fsdp, config.tensor), AXES, axis_types=axis_types, devices=devices)
    if any(len({device.process_index for device in group}) > 1 for row in mesh.devices for group in row):
        raise ConfigError(
            f"parallel.tensor={config.tensor} spans several processes, which read different rows; "
            "keep it within one"
        )
    return mesh


def batch_shards(mesh: Mesh) -> int:
    """Number of groups of devices that see different rows of a batch."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def check_batch(mesh: Mesh, rows: int, field: str) -> None:
    """ConfigError, naming `field`, unless `rows` spread evenly over the devices that share a batch."""
    shards = batch_shards(mesh)
    if rows % shards:
        raise ConfigError(f"{field}: {rows} rows do not spread evenly over {shards} devices (data x fsdp)")


def padded_batch_size(mesh: Mesh, rows: int) -> int:
    """`rows` rounded up to a multiple of the devices that share a batch."""
    shards = batch_shards(mesh)
    return -(-rows // shards) * shards
