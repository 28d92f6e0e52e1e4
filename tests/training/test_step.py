"""The step gives the same result on any mesh and with any accumulation, to float tolerance."""

import jax
import numpy as np
import pytest

from denoise_jax.config import Config
from denoise_jax.data.loader import TrainLoader
from denoise_jax.errors import ConfigError
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.parallel.sharding import global_batch
from denoise_jax.target_kinds import HIDDEN
from denoise_jax.training.optimizer import make_optimizer
from denoise_jax.training.state import abstract_state, create_state
from denoise_jax.training.step import BATCH, _dropout_key, make_evaluation_step, make_train_step
from denoise_jax.vocabulary.load import load_vocabulary

STEPS = 3
ALL_AXES = {"data": 2, "fsdp": 2, "tensor": 2}
VARIANTS = {
    "data": ({"data": 8}, 1),
    "fsdp": ({"data": 1, "fsdp": 8}, 1),
    "tensor": ({"data": 2, "tensor": 4}, 1),
    "accumulation": ({"data": 1}, 4),
    "accumulation on all axes": (ALL_AXES, 2),
    "data without sharded moments": ({"data": 8, "shard_moments": False}, 1),
    "all axes": (ALL_AXES, 1),
}
SLOW = ("data without sharded moments", "all axes")  # what they add to the others is little


@pytest.fixture(scope="module")
def batches(tiny_config):
    loader = TrainLoader(tiny_config.data, load_vocabulary(tiny_config.data.vocabulary))
    return [next(loader) for _ in range(STEPS)]


def _run(config: Config, parallel: dict, accumulation: int, batches, **model):
    """(metrics of each step, parameters at the end) on as many devices as the axes make."""
    changes = {
        "model": {**config.model.model_dump(), **model},
        "parallel": parallel,
        "training": {**config.training.model_dump(), "accumulation_steps": accumulation},
    }
    config = Config.model_validate({**config.model_dump(), **changes})
    count = int(np.prod([max(parallel.get(axis, 1), 1) for axis in ("data", "fsdp", "tensor")]))
    mesh = make_mesh(config.parallel, jax.devices()[:count])
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    state = create_state(config, optimizer, mesh)
    step = make_train_step(config, optimizer, mesh, abstract_state(config, optimizer, mesh))
    metrics = []
    for batch in batches:
        state, measured = step(state, global_batch({name: batch[name] for name in BATCH}, mesh))
        metrics.append(jax.device_get(measured))
    return metrics, state, mesh, config


@pytest.fixture(scope="module")
def one_device(tiny_config, batches):
    return _run(tiny_config, {"data": 1}, 1, batches)


@pytest.mark.parametrize(
    ("parallel", "accumulation"),
    [pytest.param(*v, id=k, marks=[pytest.mark.slow] * (k in SLOW)) for k, v in VARIANTS.items()],
)
def test_agrees_with_one_device(tiny_config, batches, one_device, parallel, accumulation):
    expected, expected_state = one_device[:2]
    metrics, state, mesh, config = _run(tiny_config, parallel, accumulation, batches)
    for ours, theirs in zip(metrics, expected, strict=True):
        for name in theirs:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-5, err_msg=name)
    # Adam divides by the root of tiny second moments, so parameters agree less closely than losses.
    for ours, theirs in zip(
        jax.tree.leaves(state["params"]), jax.tree.leaves(expected_state["params"]), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)
    target = abstract_state(config, make_optimizer(config.optimizer, config.training.num_steps), mesh)
    for leaf, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(target), strict=True):
        assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim), "the state stays where it was put"
    assert int(state["step"]) == STEPS


def test_counts_are_those_of_the_batch(batches, one_device):
    for batch, measured in zip(batches, one_device[0], strict=True):
        assert measured["tokens"] == (batch["decoder_segment_ids"] > 0).sum()
        assert measured["hidden_tokens"] == np.isin(batch["decoder_target_kind"], HIDDEN).sum()


@pytest.mark.slow
def test_loss_falls_on_a_repeated_batch(tiny_config, batches):
    metrics = _run(tiny_config, {"data": 1}, 1, [batches[0]] * 6)[0]
    assert metrics[-1]["loss"] < 0.96 * metrics[0]["loss"]


@pytest.mark.slow
def test_dropout_follows_the_step_and_nothing_else(tiny_config, batches):
    first = _run(tiny_config, {"data": 1}, 1, [batches[0]] * 2, dropout=0.2)[0]
    again = _run(tiny_config, {"data": 8}, 1, [batches[0]] * 2, dropout=0.2)[0]
    for ours, theirs in zip(first, again, strict=True):
        np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=2e-5)


@pytest.mark.parametrize(
    "rate",
    [
        "dropout",
        "attention_dropout",
        "activation_dropout",
        "encoder_layer_drop",
        "decoder_layer_drop",
        "classifier_dropout",
    ],
)
def test_each_random_part_of_the_model_gets_a_key_that_changes_with_the_step(tiny_config, rate):
    state = {"key": jax.random.key_data(jax.random.key(0))}

    def key(step, **rates):
        model = tiny_config.model.model_copy(update=rates)
        found = _dropout_key(tiny_config.model_copy(update={"model": model}), state | {"step": step})
        return None if found is None else jax.random.key_data(found).tolist()

    assert key(1) is None
    assert key(1, **{rate: 0.1}) != key(2, **{rate: 0.1})


def test_microbatches_leave_out_layers_for_themselves(tiny_config, batches):
    """Two equal microbatches: both, one or neither keep the one decoder layer; three losses, evenly apart."""
    twice = {name: np.repeat(rows[::2], 2, axis=0) for name, rows in batches[0].items()}
    _, state, mesh, config = _run(tiny_config, {"data": 1}, 2, [], decoder_layer_drop=0.5)
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    step = make_train_step(config, optimizer, mesh, abstract_state(config, optimizer, mesh))
    batch = global_batch({name: twice[name] for name in BATCH}, mesh)
    losses = []
    for number in range(16):  # the chance that one of the three is not met is 2%, and these keys are fixed
        fresh = jax.tree.map(np.array, jax.device_get(state)) | {"step": np.int32(number)}
        losses.append(float(step(fresh, batch)[1]["loss"]))
    groups = sorted({round(loss, 1): loss for loss in losses}.values())
    assert len(groups) == 3
    np.testing.assert_allclose(groups[1], (groups[0] + groups[2]) / 2, rtol=1e-5)


def test_evaluation_agrees_on_any_mesh(tiny_config, batches, one_device):
    _, state, mesh, config = one_device
    sums = make_evaluation_step(config, mesh)(
        state["params"], global_batch({k: batches[0][k] for k in BATCH}, mesh)
    )
    _, other_state, other_mesh, other = _run(tiny_config, ALL_AXES, 1, [])
    moved = jax.device_put(
        jax.device_get(state["params"]), jax.tree.map(lambda leaf: leaf.sharding, other_state["params"])
    )
    others = make_evaluation_step(other, other_mesh)(
        moved, global_batch({k: batches[0][k] for k in BATCH}, other_mesh)
    )
    for name in sums:
        np.testing.assert_allclose(sums[name], others[name], rtol=2e-5, err_msg=name)


def test_uneven_rows_are_refused(tiny_config, batches):
    from denoise_jax.parallel.mesh import check_batch

    with pytest.raises(ConfigError, match="data.batch_size"):
        check_batch(make_mesh(tiny_config.parallel), 4, "data.batch_size")
