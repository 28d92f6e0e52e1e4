"""A plan: the train step of a configuration, compiled for a TPU slice that need not exist here."""

import contextlib
import dataclasses
import re
import time
from collections.abc import Iterator

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from denoise_jax.config import Config
from denoise_jax.errors import ConfigError
from denoise_jax.model.batch import abstract_batch
from denoise_jax.model.flops import training_flops
from denoise_jax.parallel.mesh import BATCH_AXES, check_batch, make_mesh
from denoise_jax.planning import hlo, schedule
from denoise_jax.planning.topologies import chip_of_topology, topology_devices
from denoise_jax.training.optimizer import make_optimizer
from denoise_jax.training.state import abstract_state, count_parameters
from denoise_jax.training.step import make_train_step


@dataclasses.dataclass(frozen=True)
class CollectivePlan:
    """All runs of a kind of collective along the same axes, in one step of one chip."""

    kind: str
    axes: tuple[str, ...]
    runs: int
    asynchronous: int
    bytes_sent: float
    seconds: float  # if nothing hid them


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the compiler says about a train step, and what follows from it. Times are estimates.

    Memory is in bytes and per chip, FLOPs are per chip and step.
    """

    name: str
    topology: str
    slices: int
    chips: int
    chips_per_host: int
    mesh: dict[str, int]
    rows_per_chip: float
    parameters: int
    fits: bool
    memory: dict[str, float]  # by kind; only "needed" if it does not fit
    memory_limit: float
    compile_seconds: float
    # Of a program that fits:
    model_flops: float = 0.0
    hardware_flops: float = 0.0
    step_seconds: float = 0.0
    roofline_seconds: float = 0.0
    compute_seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    exposed_seconds: float = 0.0  # communication that nothing hides
    waiting_seconds: float = 0.0  # copies within a chip that nothing hides
    mfu: float = 0.0
    collectives: tuple[CollectivePlan, ...] = ()
    tokens_per_second: float = 0.0  # target tokens of all chips, if rows are full
    steps: int = 0
    largest: tuple[tuple[str, str, float], ...] = ()  # (source, type, seconds) of the largest operations
    warnings: tuple[str, ...] = ()

    @property
    def days(self) -> float:
        """Of the whole run, without validation, checkpoints and restarts."""
        return self.steps * self.step_seconds / 86400

    @property
    def chip_hours(self) -> float:
        return self.days * 24 * self.chips

    @property
    def tokens_per_second_and_host(self) -> float:
        """What a host's data pipeline must deliver."""
        return self.tokens_per_second / self.chips * self.chips_per_host


def plan(config: Config, topology: str, *, slices: int = 1) -> Plan:
    """Compiles the train step of `config` for `topology` and estimates a run from it.

    Takes minutes for a large model, and needs libtpu but no TPU.

    Args:
      config: with `model.vocab_size`.
      topology: such as "v5e:16x16".
      slices: how many slices of that topology; only the mesh axis `data` extends over several.

    Raises:
      ConfigError: no such topology, or the mesh or the batch does not fit it; checked before compiling.
    """
    chip = chip_of_topology(topology)
    if config.model.vocab_size is None:
        raise ConfigError("model.vocab_size is not set; give --model.vocab-size, such as 50265")
    mesh = make_mesh(config.parallel, topology_devices(topology, slices))
    rows = config.data.batch_size // config.training.accumulation_steps
    check_batch(mesh, rows, "data.batch_size / training.accumulation_steps")
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    target = abstract_state(config, optimizer, mesh)
    batch = abstract_batch(config.data, NamedSharding(mesh, P(BATCH_AXES)))
    known = Plan(
        name=config.name,
        topology=topology,
        slices=slices,
        chips=mesh.size,
        chips_per_host=_chips_per_host(mesh),
        mesh=dict(mesh.shape),
        rows_per_chip=config.data.batch_size / mesh.size,
        parameters=count_parameters(target),
        fits=True,
        memory={},
        memory_limit=chip.memory,
        compile_seconds=0.0,
        model_flops=training_flops(config) / mesh.size,
        steps=config.training.num_steps,
    )
    start = time.perf_counter()
    try:
        with _without_compilation_cache():
            compiled = make_train_step(config, optimizer, mesh, target).lower(target, batch).compile()
    except jax.errors.JaxRuntimeError as error:
        seconds = time.perf_counter() - start
        return dataclasses.replace(known, fits=False, memory=_needed(error), compile_seconds=seconds)
    known = dataclasses.replace(known, compile_seconds=time.perf_counter() - start, memory=_memory(compiled))
    return _with_estimate(known, compiled.as_text(), config)


@contextlib.contextmanager
def _without_compilation_cache() -> Iterator[None]:
    """A cached program can only be read back where there is hardware to run it."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)


def _chips_per_host(mesh: Mesh) -> int:
    hosts = {(getattr(device, "slice_index", 0), device.process_index) for device in mesh.devices.flat}
    return mesh.size // len(hosts)


def _with_estimate(known: Plan, text: str, config: Config) -> Plan:
    chip = chip_of_topology(known.topology)
    found = schedule.estimate(hlo.parse(text), chip, known.mesh, known.slices)
    tokens = config.data.batch_size * config.data.target_length
    return dataclasses.replace(
        known,
        hardware_flops=found.product_flops,
        step_seconds=found.step,
        roofline_seconds=found.roofline,
        compute_seconds=dict(found.compute),
        exposed_seconds=sum(found.exposed.values()),
        waiting_seconds=found.waiting,
        mfu=known.model_flops / found.step / chip.flops,
        collectives=tuple(
            CollectivePlan(kind, axes, row.runs, row.asynchronous, row.sent, row.seconds)
            for (kind, axes), row in sorted(found.collectives.items())
        ),
        tokens_per_second=tokens / found.step,
        largest=tuple((*operation, seconds) for operation, seconds in found.operations.most_common(30)),
        warnings=tuple(sorted(found.warnings)),
    )


def _memory(compiled: jax.stages.Compiled) -> dict[str, float]:
    found = compiled.memory_analysis()
    return {
        "train state and batch": found.argument_size_in_bytes,
        "activations and temporaries": found.temp_size_in_bytes,
        "results": found.output_size_in_bytes - found.alias_size_in_bytes,
        "program": found.generated_code_size_in_bytes,
    }


def _needed(error: jax.errors.JaxRuntimeError) -> dict[str, float]:
    """What a program that does not fit would need; raises `error` again if it is about something else."""
    if "RESOURCE_EXHAUSTED" not in str(error):
        raise error
    found = re.search(r"(?:Used |temporaries \()([\d.]+)([MG])", str(error))
    return {"needed": float(found.group(1)) * {"M": 2**20, "G": 2**30}[found.group(2)]} if found else {}
