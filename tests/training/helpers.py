"""Train steps and loops on a few of the virtual devices, compiled once per configuration and mesh."""

import functools
import io
import math
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh
from rich.console import Console

from denoise_jax.config import Config
from denoise_jax.data.loader import TrainLoader
from denoise_jax.model.batch import BATCH
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.parallel.sharding import global_batch
from denoise_jax.runs import run_folder
from denoise_jax.training.loop import Trainer
from denoise_jax.training.optimizer import make_optimizer
from denoise_jax.training.preemption import StopSignal
from denoise_jax.training.state import abstract_state, create_state
from denoise_jax.training.step import make_train_step
from denoise_jax.vocabulary.load import load_vocabulary


class Compiled(NamedTuple):
    """A step on a mesh, and the initial state there, on the host."""

    config: Config
    mesh: Mesh
    step: object
    state: dict
    target: dict

    def place(self, tree=None):
        """The initial state, or another one, laid out on the mesh. A step consumes it."""
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.target)
        return jax.device_put(self.state if tree is None else tree, shardings)

    def batch(self, rows: dict) -> dict:
        """A batch of the loader on the mesh."""
        return global_batch({name: rows[name] for name in BATCH}, self.mesh)


def mesh_of(config: Config) -> Mesh:
    """The mesh of a configuration whose axes are all given, on as many devices."""
    axes = config.parallel
    return make_mesh(axes, jax.devices()[: math.prod((axes.data, axes.fsdp, axes.tensor))])


@functools.cache
def initial_state(config: Config) -> dict:
    """The state before the first update, made on one device, on the host."""
    config = config.replace(parallel={"data": 1, "fsdp": 1, "tensor": 1})
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    return jax.device_get(create_state(config, optimizer, mesh_of(config)))


@functools.cache
def compiled_step(config: Config) -> Compiled:
    """The train step of a configuration."""
    optimizer, mesh = make_optimizer(config.optimizer, config.training.num_steps), mesh_of(config)
    target = abstract_state(config, optimizer, mesh)
    shared = config.replace(training={"accumulation_steps": 1}, parallel={"shard_moments": True})
    state = initial_state(shared.replace(parallel={"data": 1, "fsdp": 1, "tensor": 1}))
    return Compiled(config, mesh, make_train_step(config, optimizer, mesh, target), state, target)


def run_trainer(trainer: Trainer) -> bool:
    """What `Trainer.run` returns, with signals handled as in `train`."""
    with StopSignal() as stop:
        return trainer.run(stop)


def make_trainer(config: Config, folder: Path, validate=lambda params, stopping: {}) -> Trainer:
    """A trainer in a new or existing run folder; what it prints is in `trainer.console.file`."""
    vocabulary = load_vocabulary(config.data.vocabulary)
    _, lock = run_folder.prepare(folder, config, vocabulary.files(), vocabulary.fingerprint())
    lock.close()
    console = Console(file=io.StringIO(), width=200)
    loader = TrainLoader(config.data, vocabulary, num_classes=config.model.num_classes)
    return Trainer(config, folder, loader, vocabulary.files(), mesh_of(config), validate, console)
