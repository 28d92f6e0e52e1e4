"""Which collectives a compiled program runs, along which axes of the mesh, and what they cost."""

import math
import re

import numpy as np

from denoise_jax.parallel.chips import Chip
from denoise_jax.planning import hlo
from denoise_jax.planning.hlo import Instruction, Program

KINDS = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
)
BETWEEN_SLICES = "slices"  # the axis of a collective that leaves its slice


class Network:
    """The links between the devices of a mesh whose axes have these sizes, in the order of its devices.

    Of several slices, each holds an equal part of the first axis.
    """

    def __init__(self, chip: Chip, mesh_shape: dict[str, int], slices: int = 1):
        self.chip, self.axes, self.sizes = chip, tuple(mesh_shape), tuple(mesh_shape.values())
        self.devices, self.slices = math.prod(self.sizes), slices

    def cost(
        self, x: Instruction, *, scattered: bool
    ) -> tuple[tuple[str, tuple[str, ...]], float, float, float]:
        """((kind, axes), bytes of the whole array, bytes sent by a device, seconds alone).

        An all-reduce of which every device keeps a part ("scattered") is a reduce-scatter.
        """
        kind = x.opcode.removesuffix("-start")
        if kind == "all-reduce" and scattered:
            kind = "reduce-scatter"
        group = self._group(x)
        size = len(group)
        result = hlo.num_bytes(x.type) / (2 if x.opcode.endswith("-start") else 1)  # (operand, result)
        share = (size - 1) / size
        full = result * size if x.opcode.startswith("reduce-scatter") else result
        sent = full * {"all-reduce": 2 * share, "all-to-all": share / 4, "collective-permute": 1}.get(
            kind, share
        )
        axes = self._axes(group)
        return (kind, axes), full, sent, sent / self._bandwidth(kind, axes, size)

    def _bandwidth(self, kind: str, axes: tuple[str, ...], size: int) -> float:
        if BETWEEN_SLICES in axes:
            # Within a slice, each chip first has its share of the array.
            return self.chip.network_bandwidth * max(size // self.slices, 1)
        if kind == "collective-permute":
            return self.chip.link_bandwidth
        side = round((self.devices / self.slices) ** (1 / self.chip.torus_axes))
        used = 1 if size <= side else self.chip.torus_axes
        return 2 * self.chip.link_bandwidth * used  # both directions

    def _axes(self, group: list[int]) -> tuple[str, ...]:
        places = np.array(np.unravel_index(group, self.sizes))
        varying = [axis for axis, place in zip(self.axes, places, strict=True) if len(set(place)) > 1]
        crosses = len({device // (self.devices // self.slices) for device in group}) > 1
        return (*varying, *[BETWEEN_SLICES] * crosses)

    def _group(self, x: Instruction) -> list[int]:
        """The devices of one group that communicates, as indices into the mesh."""
        pairs = re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", x.attributes)
        if pairs:
            return [int(device) for device in pairs.groups()]
        named = re.search(
            r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\]T\(([\d,]+)\)\))?\s*\{([^}]*)\}",
            x.attributes,
        )
        if named:
            sizes = {axis: int(size) for axis, size in re.findall(r"'(\w+)'=(\d+)", named.group(1))}
            dims, order = _integers(named.group(2)), _integers(named.group(3))
            grid = np.arange(math.prod(sizes.values()))
            grid = grid.reshape(dims).transpose(order) if dims else grid
            communicating = re.findall(r"'(\w+)'", named.group(4))
            places = tuple(slice(None) if axis in communicating else 0 for axis in sizes)
            return list(grid.reshape(*sizes.values())[places].flat)
        iota = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", x.attributes)
        if iota:
            shape, dims, order = map(_integers, iota.groups())
            grid = np.arange(math.prod(dims)).reshape(dims).transpose(order or range(len(dims)))
            return list(grid.reshape(shape)[0].flat)
        listed = re.search(r"replica_groups=\{\{([\d,]+)\}", x.attributes)
        return [int(n) for n in listed.group(1).split(",")] if listed else list(range(self.devices))


def _integers(text: str | None) -> list[int]:
    return [int(number) for number in (text or "").split(",") if number]


def collective_of(program: Program, x: Instruction) -> tuple[Instruction, str] | None:
    """The collective that an instruction is or stands for, and its role: alone, start, inside or done.

    TPU programs hide asynchronous collectives in fusions that compute something else meanwhile: one fusion
    starts them, others advance them ("inside"), and one ends them.
    """
    kind = x.opcode.removesuffix("-start")
    if kind in KINDS:
        return x, "start" if x.opcode.endswith("-start") else "alone"
    inside = program.called(x)
    inner = _innermost(program, x)
    if inner is None:
        return None
    if x.opcode == "async-start":
        return inner, "start"
    targets = {
        target
        for y in inside
        for target in re.findall(r'custom_call_target="AsyncCollective(\w+)"', y.attributes)
    }
    role = "start" if "Start" in targets else "done" if "Done" in targets else "inside"
    return inner, role


def transfer_between_slices(x: Instruction) -> tuple[str, str] | None:
    """(kind of collective, name) of an instruction by which slices exchange data through their hosts.

    All instructions of one exchange have the same name: send, recv, and the end of each.
    """
    kind = re.search(r'_xla_megascale_transfer_type="(\w+)"', x.attributes)
    name = re.search(r'_xla_host_transfer_rendezvous="([^"]+)"', x.attributes)
    return (kind.group(1).lower().replace("_", "-"), name.group(1)) if kind and name else None


def asynchronous_channels(program: Program) -> set[str]:
    """The channels of asynchronous collectives, whose fusions may be in several loops."""
    found = (collective_of(program, x) for schedule in program.computations.values() for x in schedule)
    return {
        inner.attribute("channel_id") or inner.name for inner, role in filter(None, found) if role == "start"
    }


def _innermost(program: Program, x: Instruction) -> Instruction | None:
    for y in program.called(x):
        if y.opcode.removesuffix("-start") in KINDS:
            return y
        if inner := _innermost(program, y):
            return inner
    return None
