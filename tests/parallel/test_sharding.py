"""The rule table covers every leaf of the state once, and lays moments over the data axis."""

import math

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from denoise_jax.config import ModelConfig, OptimizerConfig, ParallelConfig
from denoise_jax.errors import ConfigError
from denoise_jax.model.transformer import bind_params, init_params
from denoise_jax.parallel import sharding
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.training.optimizer import make_optimizer
from denoise_jax.training.state import init_state


def _shapes(tiny_config, optimizer="adamw", **model):
    config = tiny_config.model_copy(
        update={
            "model": ModelConfig(**{**tiny_config.model.model_dump(), **model}),
            "optimizer": OptimizerConfig(name=optimizer),
        }
    )
    return jax.eval_shape(lambda: init_state(config, make_optimizer(config.optimizer, 10**5)))


QUICK_TO_COMPILE = {"xla_backend_optimization_level": 0}
VARIANTS = {
    "bart": {"norm_position": "post"},
    "mbart": {"norm_position": "pre", "scale_embedding": True, "tie_embeddings": False},
    "modern": {
        "norm_position": "pre",
        "norm": "rms",
        "positions": "rotary",
        "gated_ffn": True,
        "use_bias": False,
        "embedding_norm": False,
    },
    "gated with biases": {"norm_position": "post", "gated_ffn": True},
    "classes": {"num_classes": 3},
}
SLOW = (
    "bart",
    "mbart",
    "gated with biases",
)  # what they add to the others, and to the tests of the step, is little


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_one_rule_for_every_leaf(tiny_config, optimizer, variant):
    for path, _ in jax.tree.leaves_with_path(_shapes(tiny_config, optimizer, **variant)):
        sharding.spec_for(sharding.leaf_name(path))


@pytest.mark.parametrize(
    "variant",
    [pytest.param(VARIANTS[name], id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name in VARIANTS],
)
def test_eight_devices_give_the_loss_and_gradient_of_one(tiny_config, variant):
    """With layers left out and dropout, which must fall alike on every device."""
    random = {"encoder_layer_drop": 0.5, "decoder_layer_drop": 0.3, "dropout": 0.1, "classifier_dropout": 0.1}
    fields = {"num_encoder_layers": 2, "num_decoder_layers": 2, "scan_layers": True, "vocab_multiple": 8}
    config = ModelConfig(**{**tiny_config.model.model_dump(), **fields, **random, **variant})
    params = init_params(config, jax.random.key(0))
    tokens_BT = np.random.default_rng(0).integers(3, 60, (8, 12)).astype(np.int32)
    positions_BT = np.tile(np.arange(12, dtype=np.int32), (8, 1))
    segments_BT = 1 + (positions_BT > 6).astype(np.int32)
    values = {"input_tokens": tokens_BT, "segment_ids": segments_BT, "positions": positions_BT}
    batch = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in values.items()}
    results = []
    for axes in ({"data": 1}, {"data": 2, "fsdp": 2, "tensor": 2}):
        mesh = make_mesh(ParallelConfig(**axes), jax.devices()[: math.prod(axes.values())])
        constrain = sharding.constrain_to(mesh)

        def loss(params, batch, constrain=constrain):
            model = bind_params(config, params)
            logits = model(batch, dropout_key=jax.random.key(7), constrain=constrain)
            return jax.nn.logsumexp(logits.astype("float32"), axis=-1).mean()

        shardings = sharding.state_shardings({"params": params}, mesh, shard_moments=False)["params"]
        placed = jax.device_put(params, shardings)
        step = jax.jit(
            jax.value_and_grad(loss), out_shardings=(None, shardings), compiler_options=QUICK_TO_COMPILE
        )
        results.append(jax.device_get(step(placed, sharding.global_batch(batch, mesh))))
    (value, gradients), (other_value, other_gradients) = results
    kernels = [gradients[side]["layers"]["ffn"]["up"]["kernel"] for side in ("encoder", "decoder")]
    assert {bool(layer.any()) for kernel in kernels for layer in kernel} == {False, True}, "some are left out"
    np.testing.assert_allclose(other_value, value, rtol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(other_gradients), jax.tree.leaves(gradients), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)


def test_class_scores_are_not_split_over_tensor():
    mesh = make_mesh(ParallelConfig(data=2, fsdp=2, tensor=2))
    constrain = sharding.constrain_to(mesh)
    classes = jax.jit(lambda x: constrain(x, "classes"))(np.zeros((8, 4, 3), np.float32))
    logits = jax.jit(lambda x: constrain(x, "logits"))(np.zeros((8, 4, 6), np.float32))
    assert {shard.data.shape for shard in classes.addressable_shards} == {(2, 4, 3)}
    assert {shard.data.shape for shard in logits.addressable_shards} == {(2, 4, 3)}


def test_unknown_leaf_is_refused():
    with pytest.raises(ConfigError, match="0 sharding rules match .*params/encoder/novelty"):
        sharding.spec_for("params/encoder/novelty")


def test_moments_lie_over_data_too(tiny_config):
    mesh = make_mesh(ParallelConfig(data=2, fsdp=2, tensor=2))
    laid = sharding.state_shardings(_shapes(tiny_config), mesh, shard_moments=True)
    adam = laid["opt_state"][1][0]
    kernel = ("encoder", "layers", "ffn", "up", "kernel")

    def at(tree, path):
        for key in path:
            tree = tree[key]
        return tree.spec

    assert at(laid["params"], kernel) == P(None, "fsdp", "tensor")
    assert at(adam.mu, kernel) == P(None, "fsdp", ("tensor", "data"))
    assert at(adam.nu, kernel) == at(adam.mu, kernel)
    plain = sharding.state_shardings(_shapes(tiny_config), mesh, shard_moments=False)
    assert at(plain["opt_state"][1][0].mu, kernel) == P(None, "fsdp", "tensor")


def test_indivisible_axis_is_named(tiny_config):
    mesh = make_mesh(ParallelConfig(data=1, tensor=8))
    with pytest.raises(ConfigError, match=r"parallel.tensor=8 does not divide 36, an axis of opt_state.*key"):
        sharding.state_shardings(_shapes(tiny_config, embed_dim=36, num_heads=4), mesh, shard_moments=False)


def test_global_batch_is_spread_over_rows():
    mesh = make_mesh(ParallelConfig(data=2, fsdp=2, tensor=2))
    rows = np.arange(24, dtype=np.int32).reshape(8, 3)
    (batch,) = sharding.global_batch({"rows": rows}, mesh).values()
    assert batch.sharding.spec == P(("data", "fsdp"))
    assert {shard.data.shape for shard in batch.addressable_shards} == {(2, 3)}
    np.testing.assert_array_equal(batch, rows)
