"""The evaluation step: the sums of all metrics over one batch, jitted over a mesh."""

from collections.abc import Callable, Sequence

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from denoise_jax.config import Config
from denoise_jax.evaluation.metrics import Metric, score
from denoise_jax.model.transformer import bind_params
from denoise_jax.parallel.placement import MeshPlacement


def make_evaluation_step(config: Config, metrics: Sequence[Metric], mesh: Mesh) -> Callable:
    """Jitted (params, batch) → a tuple with the sums of each metric, replicated on every device."""
    placement = MeshPlacement(mesh, config.parallel)

    def step(params, batch):
        scored = score(bind_params(config.model, params, placement)(batch, placement=placement), batch)
        return tuple(metric.sums(scored) for metric in metrics)

    return jax.jit(step, out_shardings=NamedSharding(mesh, P()))
