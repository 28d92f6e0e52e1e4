"""Runs of several processes, and what two runs must have in common."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from denoise_jax.config import Config
from denoise_jax.runs.checkpoint import Checkpointer
from denoise_jax.training.optimizer import make_optimizer
from denoise_jax.training.state import init_state

ROOT = Path(__file__).parents[2]


def start(command: list[str], devices: int) -> subprocess.Popen:
    """Starts a Python module with arguments, on virtual devices; all that it prints is one text."""
    kept = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS" and not k.startswith("JAX_NUMPY")}
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=kept | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_command(command: list[str], *, processes: int, devices: int, launch: tuple[str, ...] = ()) -> str:
    """Runs a command of denoise-jax to its end, on `devices` in all, and returns what it printed."""
    devices //= processes
    prefix = ["denoise_jax.cli.main"]
    if processes > 1:
        prefix = ["launch.local", "--processes", str(processes), "--devices", str(devices), *launch, "--"]
    process = start([*prefix, *command], devices)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def train(config: Config, folder: Path, run, **options) -> str:
    """Trains in `run`, with the options of `run_command`, and returns what was printed."""
    file = folder / "config-of-the-run.json"
    file.write_text(config.model_dump_json())
    return run_command(["train", str(file), "--workdir", str(run)], **options)


def finish(processes: list[subprocess.Popen]) -> tuple[list[int], list[str]]:
    """The exit codes of processes, which must end within two minutes, and what they printed."""
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    return [process.returncode for process in processes], outputs


def start_two(
    config: Config, folder: Path, run, *, differing: tuple[str, ...] = ()
) -> list[subprocess.Popen]:
    """Two processes with two devices each that are not restarted; `differing` are flags of the second."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = folder / "config-of-the-run.json"
    file.write_text(config.model_dump_json())
    command = ["denoise_jax.cli.main", "train", str(file), "--workdir", str(run)]
    command += ["--coordinator", f"127.0.0.1:{port}", "--num-processes", "2", "--heartbeat-timeout", "10"]
    flags = [["--process-id", "0"], ["--process-id", "1", *differing]]
    return [start([*command, *own], 2) for own in flags]


def final_state(config: Config, run) -> dict:
    """The state of the last step, on the host."""
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    shapes = jax.eval_shape(lambda: init_state(config, optimizer))
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), shapes)
    checkpoints = Checkpointer(run / "checkpoints", read_only=True)
    return jax.device_get(checkpoints.restore(config.training.num_steps, target))


def assert_same_state(first: dict, second: dict) -> None:
    """Bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, first, second)
