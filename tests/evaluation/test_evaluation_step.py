"""The sums of the evaluation step are the same on any mesh."""

import jax
import numpy as np

from denoise_jax.data.loader import evaluation_batches
from denoise_jax.evaluation.evaluation_step import make_evaluation_step
from denoise_jax.evaluation.metrics import metrics_for
from denoise_jax.model.batch import BATCH
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.parallel.sharding import global_batch, state_shardings
from denoise_jax.vocabulary.load import load_vocabulary
from tests.evaluation.helpers import initial_params


def test_any_mesh_agrees_with_one_device(tiny_config):
    vocabulary = load_vocabulary(tiny_config.data.vocabulary)
    batch = next(evaluation_batches(tiny_config.data, vocabulary, "validation", 16, 1))
    metrics, results = metrics_for(tiny_config.model), []
    for axes, devices in (({"data": 1}, 1), ({"data": 2, "fsdp": 2, "tensor": 2}, 8)):
        config = tiny_config.replace(parallel=axes)
        mesh = make_mesh(config.parallel, jax.devices()[:devices])
        params = {"params": jax.device_get(initial_params(config.model))}
        params = jax.device_put(params, state_shardings(params, mesh, shard_moments=False))["params"]
        step = make_evaluation_step(config, metrics, mesh)
        rows = global_batch({name: batch[name] for name in BATCH}, mesh)
        results.append(jax.device_get(step(params, rows)))
    assert results[0][0]["tokens_K"].sum() == (batch["decoder_target_kind"] > 0).sum()
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=2e-5), *results)
