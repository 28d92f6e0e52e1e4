"""Activations on a mesh: the same loss and gradients as on one device."""

import functools
import math

import jax
import numpy as np
import pytest

from denoise_jax.config import ParallelConfig
from denoise_jax.model.transformer import bind_params
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.parallel.placement import MeshPlacement
from denoise_jax.parallel.sharding import global_batch, state_shardings
from tests.model.helpers import MODERN, jit, pack, random_params, tiny_config

VARIANTS = {
    "bart": {},
    "mbart": {"norm_position": "pre", "scale_embedding": True, "tie_embeddings": False},
    "modern": MODERN,
    "gated with biases": {"gated_ffn": True},
    "classes": {"num_classes": 3},
}
# These add little to the others and to the tests of the train step.
SLOW = ("bart", "mbart", "modern", "gated with biases", "classes")
BATCH = pack([[(5, 4), (4, 5)], [(12, 10)]] * 4)


@pytest.mark.parametrize(
    "variant",
    [pytest.param(VARIANTS[name], id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name in VARIANTS],
)
def test_eight_devices_give_the_loss_and_gradients_of_one(variant):
    """With LayerDrop and dropout, which must be the same on every device."""
    dropout = {
        "encoder_layer_drop": 0.5,
        "decoder_layer_drop": 0.3,
        "dropout": 0.1,
        "classifier_dropout": 0.1,
    }
    config = tiny_config(**{"scan_layers": True, **dropout, **variant})
    params = random_params(config)

    def loss(placement, params, batch):
        model = bind_params(config, params)
        logits = model(batch, dropout_key=jax.random.key(7), placement=placement)
        return jax.nn.logsumexp(logits.astype("float32"), axis=-1).mean()

    results = []
    for axes in ({"data": 1}, {"data": 2, "fsdp": 2, "tensor": 2}):
        mesh = make_mesh(ParallelConfig(**axes), jax.devices()[: math.prod(axes.values())])
        shardings = state_shardings({"params": params}, mesh, shard_moments=False)["params"]
        step = jit(
            jax.value_and_grad(functools.partial(loss, MeshPlacement(mesh, ParallelConfig()))),
            out_shardings=(None, shardings),
        )
        batch = global_batch(jax.device_get(BATCH), mesh)
        results.append(jax.device_get(step(jax.device_put(params, shardings), batch)))
    (value, gradients), (other_value, other_gradients) = results
    kernels = [gradients[side]["layers"]["ffn"]["up"]["kernel"] for side in ("encoder", "decoder")]
    assert {bool(layer.any()) for kernel in kernels for layer in kernel} == {False, True}, "some are dropped"
    np.testing.assert_allclose(other_value, value, rtol=1e-5)
    for got, expected in zip(jax.tree.leaves(other_gradients), jax.tree.leaves(gradients), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-6)


def test_the_vocabulary_of_logits_is_sharded_and_classes_are_not():
    placement = MeshPlacement(make_mesh(ParallelConfig(data=2, fsdp=2, tensor=2)), ParallelConfig())
    classes = jax.jit(lambda x: placement.constrain(x, "classes"))(np.zeros((8, 4, 3), np.float32))
    logits = jax.jit(lambda x: placement.constrain(x, "logits"))(np.zeros((8, 4, 6), np.float32))
    assert {shard.data.shape for shard in classes.addressable_shards} == {(2, 4, 3)}
    assert {shard.data.shape for shard in logits.addressable_shards} == {(2, 4, 3)}
