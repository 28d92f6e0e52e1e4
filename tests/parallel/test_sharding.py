"""The sharding rules: one per leaf of the train state, and moments sharded over `data`."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from denoise_jax.config import ModelConfig, OptimizerConfig, ParallelConfig
from denoise_jax.errors import ConfigError
from denoise_jax.parallel import sharding
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.training.optimizer import make_optimizer
from denoise_jax.training.state import init_state
from tests.model.helpers import MODERN


def _shapes(tiny_config, optimizer="adamw", **model):
    config = tiny_config.model_copy(
        update={
            "model": ModelConfig(**{**tiny_config.model.model_dump(), **model}),
            "optimizer": OptimizerConfig(name=optimizer),
        }
    )
    return jax.eval_shape(lambda: init_state(config, make_optimizer(config.optimizer, 10**5)))


VARIANTS = {
    "bart": {"norm_position": "post"},
    "mbart": {"norm_position": "pre", "scale_embedding": True, "tie_embeddings": False},
    "modern": MODERN,
    "gated with biases": {"norm_position": "post", "gated_ffn": True},
    "classes": {"num_classes": 3},
}


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_exactly_one_rule_matches_every_leaf(tiny_config, optimizer, variant):
    for path, _ in jax.tree.leaves_with_path(_shapes(tiny_config, optimizer, **variant)):
        sharding.spec_for(sharding.leaf_name(path))


def test_a_leaf_without_a_rule_is_refused():
    with pytest.raises(ConfigError, match="0 sharding rules match leaf 'params/encoder/novelty'"):
        sharding.spec_for("params/encoder/novelty")


def test_moments_are_sharded_over_data_too(tiny_config):
    mesh = make_mesh(ParallelConfig(data=2, fsdp=2, tensor=2))
    shardings = sharding.state_shardings(_shapes(tiny_config), mesh, shard_moments=True)
    adam = shardings["opt_state"][1][0]
    kernel = ("encoder", "layers", "ffn", "up", "kernel")

    def at(tree, path):
        for key in path:
            tree = tree[key]
        return tree.spec

    for tree in (shardings["params"], adam.mu, adam.nu):
        assert at(tree, kernel) == P(None, ("fsdp", "data"), "tensor")
        assert at(tree, (*kernel[:-1], "bias")) == P(None, "tensor"), "vectors are not worth it"
    plain = sharding.state_shardings(_shapes(tiny_config), mesh, shard_moments=False)
    assert at(plain["opt_state"][1][0].mu, kernel) == P(None, "fsdp", "tensor")


def test_an_indivisible_axis_is_refused_by_name(tiny_config):
    mesh = make_mesh(ParallelConfig(data=1, tensor=8))
    with pytest.raises(
        ConfigError, match=r"parallel.tensor=8 does not divide 36, the size of an axis of opt_state.*key"
    ):
        sharding.state_shardings(_shapes(tiny_config, embed_dim=36, num_heads=4), mesh, shard_moments=False)


def test_the_rows_of_a_global_batch_are_sharded_over_data_and_fsdp():
    mesh = make_mesh(ParallelConfig(data=2, fsdp=2, tensor=2))
    rows = np.arange(24, dtype=np.int32).reshape(8, 3)
    (batch,) = sharding.global_batch({"rows": rows}, mesh).values()
    assert batch.sharding.spec == P(("data", "fsdp"))
    assert {shard.data.shape for shard in batch.addressable_shards} == {(2, 3)}
    np.testing.assert_array_equal(batch, rows)
