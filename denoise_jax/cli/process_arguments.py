"""Flags of the commands that run on several hosts."""

import dataclasses

from denoise_jax.cli.terminal import quiet


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessArguments:
    """Without these flags JAX finds the processes on Cloud TPU VMs, GKE, Slurm and Open MPI."""

    coordinator: str | None = None
    """HOST:PORT of process 0 of a run on several hosts; `:PORT` alone: another port, where JAX finds them."""
    num_processes: int | None = None
    """Processes of the run; 1: this one alone, whatever JAX finds."""
    process_id: int | None = None
    """Which of them this is, counted from 0."""
    initialization_timeout: int = 300
    """Seconds to wait for the other processes."""
    heartbeat_timeout: int = 100
    """Seconds after which a process that does not answer is given up and all others end with code 134."""

    def connect(self) -> None:
        """Connects to the other processes; see `parallel/processes.py`."""
        with quiet():
            from denoise_jax.parallel.processes import initialize
        initialize(
            self.coordinator,
            self.num_processes,
            self.process_id,
            initialization_timeout=self.initialization_timeout,
            heartbeat_timeout=self.heartbeat_timeout,
        )
