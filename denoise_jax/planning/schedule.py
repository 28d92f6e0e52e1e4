"""How long a compiled TPU program should take: a walk along its schedule.

Every number is an estimate, good for comparing programs on one kind of chip. Matrix products take the cycles
that the compiler expects. Other fusions take those cycles too, but between their memory bound and three
times less, since the compiler's figure for them serves to rank tilings. Collectives and asynchronous copies
carry no cycles: they take their bytes over the bandwidth, beside the computation until their `-done`. Our
Pallas kernels take the cycles of their compiled instructions (`KERNELS`). Contention for memory and links is
not modelled.
"""

import collections
import dataclasses
import re
from collections.abc import Sequence

from denoise_jax.parallel.chips import Chip
from denoise_jax.planning import collectives, hlo
from denoise_jax.planning.hlo import Instruction, Program

# Share of the peak that the instructions of a kernel reach, if none of them stalls: FLOPs divided by the
# instruction bundles of a program of 512 queries, 512 keys and heads of 64, on TPU v5e (libtpu 0.0.42).
KERNELS = {
    "attention": 0.305,
    "attention_dropout": 0.214,
    "attention_backward": 0.404,
    "attention_dropout_backward": 0.320,
}
OTHER_KERNELS = 0.4
MEMORY_EFFICIENCY = 0.8


@dataclasses.dataclass
class Collective:
    """All runs of one kind of collective along the same axes of the mesh, on one device."""

    runs: int = 0
    asynchronous: int = 0
    bytes: float = 0.0  # of the whole array
    sent: float = 0.0  # bytes
    seconds: float = 0.0  # if nothing hid them


@dataclasses.dataclass
class Estimate:
    """What a program should take on one device, in seconds unless said otherwise."""

    step: float = 0.0
    compute: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    roofline: float = 0.0  # of the computation, at the published peaks
    exposed: collections.Counter = dataclasses.field(default_factory=collections.Counter)  # communication
    waiting: float = 0.0  # for copies within the device
    collectives: dict[tuple[str, tuple[str, ...]], Collective] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(Collective)
    )
    product_flops: float = 0.0  # FLOPs of matrix products, kernels included
    operations: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    warnings: set[str] = dataclasses.field(default_factory=set)


def estimate(program: Program, chip: Chip, mesh_shape: dict[str, int], slices: int = 1) -> Estimate:
    """Walks the schedule of `program`, compiled for a mesh of `chip` whose axes have these sizes."""
    walk = _Walk(program, chip, collectives.Network(chip, mesh_shape, slices))
    walk.found.step = walk.computation(program.entry, 1)
    return walk.found


class _Walk:
    def __init__(self, program: Program, chip: Chip, network: collectives.Network):
        self.program, self.chip, self.network = program, chip, network
        self.started = collectives.asynchronous_channels(program)
        self.found = Estimate()

    def computation(self, name: str, runs: int) -> float:
        """Seconds of one run of a computation; adds what `runs` of them take to what was found."""
        clock = _Clock()
        types = {x.name: x.type for x in self.program.computations.get(name, ())}
        for x in self.program.computations.get(name, ()):
            if x.opcode == "while":
                trips = hlo.trip_count(self.program, x)
                if trips is None:
                    self.found.warnings.add(f"the trip count of {x.name} is unknown and taken as 1")
                    trips = 1
                clock.now += trips * self.computation(x.attribute("body"), runs * trips)
            elif x.opcode == "call":
                clock.now += self.computation(x.attribute("to_apply"), runs)
            elif x.opcode == "conditional":
                clock.now += max((self.computation(branch, runs) for branch in _branches(x)), default=0.0)
            elif transfer := collectives.transfer_between_slices(x):
                self._transfer(clock, x, *transfer, runs)
            elif x.opcode.endswith("-done"):
                self._wait(clock, x.operands[0] if x.operands else "", x.opcode.removesuffix("-done"), runs)
            elif found := collectives.collective_of(self.program, x):
                self._collective(clock, x, *found, runs)
                clock.now += self._compute(x, types, runs)  # a fusion computes beside its collective
            elif x.opcode in _COPIES:
                clock.copies = max(clock.copies, clock.now) + self._copy_seconds(x)
                clock.ready[x.name] = clock.copies
            else:
                clock.now += self._compute(x, types, runs)
        return clock.now

    def _collective(self, clock: "_Clock", x: Instruction, inner: Instruction, role: str, runs: int) -> None:
        channel = inner.attribute("channel_id") or inner.name
        if role == "done":
            self._wait(clock, channel, inner.opcode, runs)
        elif role == "start" or channel not in self.started:
            scattered = (x.attribute("calls") or "").startswith("all-reduce-scatter")
            key, full, sent, seconds = self.network.cost(inner, scattered=scattered)
            row = self.found.collectives[key]
            row.runs += runs
            row.bytes, row.sent = row.bytes + full * runs, row.sent + sent * runs
            row.seconds += seconds * runs
            begin = max(clock.now, clock.links)
            clock.links = begin + seconds
            if role == "start":
                row.asynchronous += runs
                clock.ready[channel] = clock.ready[x.name] = clock.links
            else:
                self.found.exposed[key] += (clock.links - clock.now) * runs
                clock.now = clock.links

    def _transfer(self, clock: "_Clock", x: Instruction, kind: str, name: str, runs: int) -> None:
        """Sends to other slices over the hosts' network, or waits until what they sent is there."""
        key = kind, (collectives.BETWEEN_SLICES,)
        if x.opcode == "send":
            sent = hlo.num_bytes(hlo.elements(x.type)[0])
            row = self.found.collectives[key]
            row.runs, row.asynchronous = row.runs + runs, row.asynchronous + runs
            row.bytes, row.sent = row.bytes + sent * runs, row.sent + sent * runs
            seconds = sent / self.chip.network_bandwidth
            row.seconds += seconds * runs
            clock.network = clock.ready[name] = max(clock.network, clock.now) + seconds
        elif x.opcode == "recv-done":
            self._wait(clock, name, f"{kind} between slices", runs)

    def _wait(self, clock: "_Clock", name: str, kind: str, runs: int) -> None:
        late = clock.ready.get(name, clock.now) - clock.now
        if late <= 0:
            return
        clock.now += late
        if f"{kind}-start" in _COPIES:
            self.found.waiting += late * runs
        else:
            self.found.exposed[(f"{kind} (wait)", ())] += late * runs

    def _copy_seconds(self, x: Instruction) -> float:
        if x.opcode == "copy-start":
            parts = [hlo.num_bytes(part, in_hbm=True) for part in hlo.elements(x.type)[:2]]
            return max(parts) / self.chip.memory_bandwidth
        arrays = [hlo.num_bytes(part) for part in re.findall(r"\w+\[[0-9,]*\]", x.type)]
        return min((size for size in arrays if size > 64), default=0.0) / self.chip.memory_bandwidth

    def _compute(self, x: Instruction, types: dict[str, str], runs: int) -> float:
        if "tpu_custom_call" in x.attributes:
            kind, (seconds, bound, flops) = "kernels", self._kernel(x)
        elif x.estimated_cycles is not None:
            seconds = x.estimated_cycles / self.chip.clock
            flops = hlo.product_flops(self.program, x, types)
            memory = _hbm_bytes(self.program, x, types) / self.chip.memory_bandwidth
            bound = max(flops / self.chip.flops, memory)
            kind = "matrix products" if flops else "other"
            if not flops:
                seconds = min(seconds, max(memory / MEMORY_EFFICIENCY, seconds / 3))
        else:
            return 0.0
        self.found.compute[kind] += seconds * runs
        self.found.roofline += bound * runs
        self.found.product_flops += flops * runs
        self.found.operations[(_shortened(x.source) or x.opcode, hlo.elements(x.type)[0])] += seconds * runs
        return seconds

    def _kernel(self, x: Instruction) -> tuple[float, float, float]:
        """(seconds, roofline seconds, FLOPs) of a Pallas kernel."""
        found = re.search(r'"cost_estimate":\{"flops":"(\d+)".*?"bytes_accessed":"(\d+)"', x.attributes)
        if not found:
            self.found.warnings.add(f"the kernel {x.name} does not tell its cost: only its result is counted")
            memory = hlo.num_bytes(x.type) / self.chip.memory_bandwidth
            return memory, memory, 0.0
        flops, memory = float(found.group(1)), float(found.group(2)) / self.chip.memory_bandwidth
        efficiency = KERNELS.get(re.sub(r"\.\d+$", "", x.name), OTHER_KERNELS)
        return max(flops / self.chip.flops / efficiency, memory), max(flops / self.chip.flops, memory), flops


@dataclasses.dataclass
class _Clock:
    """Times on a device, in seconds since a computation began."""

    now: float = 0.0
    links: float = 0.0  # when the links are free
    copies: float = 0.0  # when the memory's copies are done
    network: float = 0.0  # when the network between slices is free
    ready: dict[str, float] = dataclasses.field(default_factory=dict)  # what is under way, by its name


_COPIES = ("copy-start", "slice-start", "dynamic-slice-start", "dynamic-update-slice-start")


def _branches(x: Instruction) -> Sequence[str]:
    two = re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", x.attributes)
    many = re.search(r"branch_computations=\{([^}]*)\}", x.attributes)
    return two + (re.findall(r"%?([\w.\-]+)", many.group(1)) if many else [])


def _shortened(source: str) -> str:
    """Where an operation comes from, without the transformations around it; "backward" where it is."""
    name = re.sub(r"(jit\(\w+\)|while|body|closed_call|checkpoint|jvp\(\)|shard_map)/", "", source)
    name = name.replace("transpose(jvp())/", "backward/").replace("rematted_computation/", "again/")
    return name[-70:]


def _hbm_bytes(program: Program, x: Instruction, types: dict[str, str]) -> float:
    """Bytes that a fusion reads from and writes to HBM: of an operand of which it only reads slices, and of a
    result in which it only updates a slice, those of the slices."""
    inside = program.by_name(x.attribute("calls") or "")
    parameters = {int(p.operands[0]): p for p in inside.values() if p.opcode == "parameter"}
    total = 0.0
    for number, operand in enumerate(x.operands):
        size = hlo.num_bytes(types.get(operand, ""), in_hbm=True)
        name = parameters[number].name if number in parameters else None
        users = [user for user in inside.values() if name in user.operands]
        if size and users and all(user.opcode in ("dynamic-slice", "slice") for user in users):
            size = min(size, sum(hlo.num_bytes(user.type) for user in users))
        elif size and users and all(_updates(user, name) for user in users):
            size = 0.0
        total += size
    root = next((y for y in inside.values() if y.is_root), None)
    results = [inside.get(name) for name in root.operands] if root and root.opcode == "tuple" else [root]
    parts = hlo.elements(x.type)
    for part, result in zip(
        parts, results if len(results) == len(parts) else [None] * len(parts), strict=True
    ):
        size = hlo.num_bytes(part, in_hbm=True)
        if result is not None and result.opcode == "dynamic-update-slice" and result.operands[1] in inside:
            size = min(size, hlo.num_bytes(inside[result.operands[1]].type))
        total += size
    return total


def _updates(user: Instruction, name: str) -> bool:
    return user.opcode == "dynamic-update-slice" and user.operands[0] == name
