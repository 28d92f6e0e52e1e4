"""The processes of a run, one for each host: their start, what they agree on, and errors that they share.

Every function here except `initialize` and `is_first` is called by all processes alike, in the same order.
With one process they return at once.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from denoise_jax import errors
from denoise_jax.errors import ConfigError, LostProcessError, UserError, is_temporary, reason_of

Result = TypeVar("Result")

INITIALIZATION_TIMEOUT = 300  # seconds in which all processes must have started
_SIGNS_OF_LOSS = ("Gloo", "UNAVAILABLE", "DEADLINE_EXCEEDED", "heartbeat")
HEARTBEAT_TIMEOUT = 100  # seconds after which a silent process is given up, and all others end


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    initialization_timeout: int = INITIALIZATION_TIMEOUT,
    heartbeat_timeout: int = HEARTBEAT_TIMEOUT,
) -> None:
    """Connects this process to the others of its run, before anything else is done with JAX.

    Without arguments JAX finds the others itself on Cloud TPU VMs, on GKE, under Slurm and under Open MPI;
    elsewhere there is only this process, and nothing is done.

    Args:
      coordinator: HOST:PORT of process 0, which the others must be able to reach; `:PORT` alone chooses the
        port where the host is found by JAX, if a firewall is open for another one than JAX's.
      num_processes, process_id: of the run, and of this process, counted from 0.
      initialization_timeout: seconds to wait for the other processes.
      heartbeat_timeout: seconds after which a process that does not answer is given up: then all others end
        with exit code 134, to be started again.

    Raises:
      ConfigError: arguments are missing or out of bounds, or the others cannot be reached in time.
    """
    if jax.distributed.is_initialized():
        return
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    if num_processes is not None and num_processes < 1:
        raise ConfigError(f"num_processes={num_processes} must be at least 1")
    if num_processes == 1 or (all(value is None for value in given.values()) and not _in_cluster()):
        return
    if coordinator is not None and not coordinator.rpartition(":")[2].isdigit():
        raise ConfigError(f"coordinator={coordinator!r} has no port; give HOST:PORT, or :PORT")
    if coordinator is not None and coordinator.startswith(":"):
        os.environ["JAX_COORDINATOR_PORT"] = coordinator[1:]
        coordinator = None
    if not _in_cluster():
        missing = [name for name, value in given.items() if value is None]
        if missing:
            raise ConfigError(f"{' and '.join(missing)} must be given too: no cluster is recognised here")
    if None not in (num_processes, process_id) and not 0 <= process_id < num_processes:
        raise ConfigError(f"process_id={process_id} must be between 0 and {num_processes - 1}")
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=initialization_timeout,
            heartbeat_timeout_seconds=heartbeat_timeout,
        )
    except (RuntimeError, ValueError) as error:
        reason = reason_of(error)
        raise ConfigError(
            f"the processes of the run cannot be connected: {reason}; give --coordinator HOST:PORT, "
            "--num-processes and --process-id, or --num-processes 1 for a single process"
        ) from None


def _in_cluster() -> bool:
    """Whether JAX can find several processes by itself, from the environment or from the TPU's host."""
    environment = os.environ
    if any(int(environment.get(name, "1")) > 1 for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")):
        return True
    if "TPU_WORKER_HOSTNAMES" in environment or "MEGASCALE_COORDINATOR_ADDRESS" in environment:
        return True
    on_tpu = any(Path(device).exists() for device in ("/dev/accel0", "/dev/vfio/0"))
    return on_tpu and environment.get("JAX_PLATFORMS", "tpu").startswith("tpu")


def is_first() -> bool:
    """Whether this is the process that writes what a run has only one of, and that prints."""
    return jax.process_index() == 0


def gather(text: str) -> list[str]:
    """The text of each process."""
    if jax.process_count() == 1:
        return [text]
    own = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(len(own), np.int32))
    padded = np.zeros(max(int(sizes.max()), 1), np.uint8)
    padded[: len(own)] = own
    rows = multihost_utils.process_allgather(padded)
    return [row[:size].tobytes().decode() for row, size in zip(rows, sizes, strict=True)]


def any_of(value: bool) -> bool:
    """Whether `value` is true in any process."""
    return "1" in gather(str(int(value))) if jax.process_count() > 1 else value


def together(action: Callable[[], Result]) -> Result:
    """Calls `action` in all processes and waits for all. If it fails in one, all raise that error.

    Raises:
      UserError: the action raised it, or an OSError, in this or in another process, which is named.
    """
    if jax.process_count() == 1:
        return action()
    result, error = None, None
    try:
        result = action()
    except (UserError, OSError) as raised:
        error = raised
    kind = type(error).__name__ if isinstance(error, UserError) else "UserError"
    kind = "StorageError" if error is not None and is_temporary(error) else kind
    found = gather("" if error is None else f"{kind}\n{error}")
    if error is not None:
        raise error
    for index, other in enumerate(found):
        if other:
            kind, message = other.split("\n", 1)
            raise getattr(errors, kind, UserError)(f"process {index}: {message}")
    return result


@contextlib.contextmanager
def reporting_lost_processes() -> Iterator[None]:
    """LostProcessError for a collective operation in the block that fails because another process has ended.

    Otherwise JAX ends this process with exit code 134, once the heartbeat time-out has passed.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or not any(sign in str(error) for sign in _SIGNS_OF_LOSS):
            raise
        raise LostProcessError(
            f"another process of the run has ended; start all again ({reason_of(error)})"
        ) from None


def check_agreement(values: Mapping[str, str]) -> None:
    """ConfigError unless all processes have the same `values`; it names those that differ."""
    first, *others = [json.loads(text) for text in gather(json.dumps(values))]
    for index, other in enumerate(others, 1):
        differing = [name for name in sorted({*first, *other}) if first.get(name) != other.get(name)]
        if differing:
            found = "; ".join(f"{name} is {first.get(name)} and {other.get(name)}" for name in differing)
            raise ConfigError(f"processes 0 and {index} of the run differ: {found}")
