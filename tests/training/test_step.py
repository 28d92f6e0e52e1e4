"""The step gives the same result on any mesh and with any accumulation, within float tolerance."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from denoise_jax.data.loader import TrainLoader
from denoise_jax.model.batch import abstract_batch
from denoise_jax.parallel.mesh import BATCH_AXES
from denoise_jax.target_kinds import HIDDEN
from denoise_jax.training.step import _dropout_key
from denoise_jax.vocabulary.load import load_vocabulary
from tests.training.helpers import compiled_step

STEPS = 3
ONE_DEVICE = {"data": 1}
ALL_AXES = {"data": 2, "fsdp": 2, "tensor": 2}
VARIANTS = {
    "data": ({"data": 4}, 1),
    "fsdp": ({"data": 1, "fsdp": 4}, 1),
    "tensor": ({"data": 2, "tensor": 2}, 1),
    "accumulation": (ONE_DEVICE, 4),
    "accumulation on all axes": (ALL_AXES, 2),
    "data without sharded moments": ({"data": 4, "shard_moments": False}, 1),
    "all axes": (ALL_AXES, 1),
}
# These add little to the others.
SLOW = ("fsdp", "tensor", "accumulation", "data without sharded moments", "all axes")


@pytest.fixture(scope="module")
def batches(tiny_config):
    loader = TrainLoader(tiny_config.data, load_vocabulary(tiny_config.data.vocabulary))
    return [next(loader) for _ in range(STEPS)]


def _run(config, parallel, accumulation, batches, **model):
    """The metrics of each step, and the final state."""
    training = {"accumulation_steps": accumulation}
    compiled = compiled_step(config.replace(model=model, parallel=parallel, training=training))
    state, metrics = compiled.place(), []
    for batch in batches:
        state, measured = compiled.step(state, compiled.batch(batch))
        metrics.append(jax.device_get(measured))
    return metrics, state


def _assert_agree(run, expected_run):
    """Two results of `_run` are the same within float tolerance."""
    (metrics, state), (expected, expected_state) = run, expected_run
    for ours, theirs in zip(metrics, expected, strict=True):
        for name in theirs:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-5, err_msg=name)
    # Adam divides by the root of tiny second moments, so parameters agree less closely than losses.
    for ours, theirs in zip(
        jax.tree.leaves(state["params"]), jax.tree.leaves(expected_state["params"]), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)


@pytest.fixture(scope="module")
def one_device(tiny_config, batches):
    return _run(tiny_config, ONE_DEVICE, 1, batches)


@pytest.mark.parametrize(
    ("parallel", "accumulation"),
    [pytest.param(*v, id=k, marks=[pytest.mark.slow] * (k in SLOW)) for k, v in VARIANTS.items()],
)
def test_any_mesh_agrees_with_one_device(tiny_config, batches, one_device, parallel, accumulation):
    metrics, state = _run(tiny_config, parallel, accumulation, batches)
    _assert_agree((metrics, state), one_device)
    training = {"accumulation_steps": accumulation}
    target = compiled_step(tiny_config.replace(parallel=parallel, training=training)).target
    for leaf, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(target), strict=True):
        assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim), "the state keeps its layout"
    assert int(state["step"]) == STEPS


@pytest.mark.parametrize(
    ("parallel", "accumulation", "tied"),
    [
        pytest.param(ONE_DEVICE, 1, False, id="one device"),
        pytest.param(ALL_AXES, 2, True, id="all axes"),
    ],
)
def test_blocks_of_the_loss_change_nothing_but_memory(tiny_config, batches, parallel, accumulation, tied):
    def run(blocks):
        config = tiny_config.replace(loss={"blocks": blocks, "label_smoothing": 0.1, "z_loss": 1e-3})
        return _run(config, parallel, accumulation, batches, tie_embeddings=tied)

    _assert_agree(run(4), run(1))


def test_with_blocks_the_logits_of_a_whole_row_do_not_exist(tiny_config):
    def shapes(blocks):
        made = compiled_step(tiny_config.replace(loss={"blocks": blocks}, parallel=ONE_DEVICE))
        rows, vocabulary = tiny_config.data.batch_size, tiny_config.model.padded_vocab_size
        batch = abstract_batch(made.config.data, NamedSharding(made.mesh, P(BATCH_AXES)))
        found = made.step.lower(made.target, batch).compile().as_text()
        return [f"[{rows},{length},{vocabulary}]" in found for length in (64, 16)]

    assert shapes(1) == [True, False]
    assert shapes(4) == [False, True]


def test_counts_are_those_of_the_batch(batches, one_device):
    for batch, measured in zip(batches, one_device[0], strict=True):
        assert measured["tokens"] == (batch["decoder_segment_ids"] > 0).sum()
        assert measured["hidden_tokens"] == np.isin(batch["decoder_target_kind"], HIDDEN).sum()


@pytest.mark.slow
def test_loss_falls_on_a_repeated_batch(tiny_config, batches):
    metrics = _run(tiny_config, ONE_DEVICE, 1, [batches[0]] * 6)[0]
    assert metrics[-1]["loss"] < 0.96 * metrics[0]["loss"]


@pytest.mark.slow
def test_dropout_depends_on_the_step_and_not_on_the_mesh(tiny_config, batches):
    first = _run(tiny_config, ONE_DEVICE, 1, [batches[0]] * 2, dropout=0.2)[0]
    again = _run(tiny_config, {"data": 4}, 1, [batches[0]] * 2, dropout=0.2)[0]
    for ours, theirs in zip(first, again, strict=True):
        np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=2e-5)
    assert abs(first[0]["loss"] - first[1]["loss"]) > 1e-3 * first[0]["loss"]


def test_an_update_that_is_not_finite_is_skipped_if_asked_for(tiny_config, batches):
    skipping = tiny_config.replace(training={"nonfinite": "skip"}, parallel=ONE_DEVICE)
    compiled = compiled_step(skipping)
    state, metrics = compiled.step(compiled.place(), compiled.batch(batches[0]))
    plain = compiled_step(tiny_config.replace(parallel=ONE_DEVICE))
    expected, _ = plain.step(plain.place(), plain.batch(batches[0]))
    assert metrics["skipped"] == 0
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    broken = jax.tree.map(np.array, state)
    broken["params"]["decoder"]["layers"]["ffn"]["up"]["bias"][0, 0] = np.inf
    after, metrics = compiled.step(compiled.place(broken), compiled.batch(batches[1]))
    assert metrics["skipped"] == 1
    jax.tree.map(np.testing.assert_array_equal, after, broken | {"step": broken["step"] + 1})


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
def test_any_dropout_gets_a_key_that_changes_with_the_step(tiny_config, rate):
    state = {"key": jax.random.key_data(jax.random.key(0))}

    def key(step, **rates):
        found = _dropout_key(tiny_config.replace(model=rates), state | {"step": step})
        return None if found is None else jax.random.key_data(found).tolist()

    assert key(1) is None
    assert key(1, **{rate: 0.1}) != key(2, **{rate: 0.1})


@pytest.mark.slow
def test_microbatches_drop_layers_independently(tiny_config, batches):
    """Of two equal microbatches both, one or neither keep the decoder layer: three losses, evenly apart."""
    rows = {name: np.repeat(array[::2], 2, axis=0) for name, array in batches[0].items()}
    config = tiny_config.replace(model={"decoder_layer_drop": 0.5}, training={"accumulation_steps": 2})
    compiled = compiled_step(config.replace(parallel=ONE_DEVICE))
    batch, losses = compiled.batch(rows), []
    for step in range(16):  # the chance that one of the three does not occur is 2%; these keys are fixed
        state = compiled.place(compiled.state | {"step": np.int32(step)})
        losses.append(float(compiled.step(state, batch)[1]["loss"]))
    groups = sorted({round(loss, 1): loss for loss in losses}.values())
    assert len(groups) == 3
    np.testing.assert_allclose(groups[1], (groups[0] + groups[2]) / 2, rtol=1e-5)
