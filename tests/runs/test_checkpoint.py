"""Real Orbax checkpoints: restored bit for bit on any mesh; damage is noticed and costs one checkpoint."""

import contextlib
import math
import re
import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from denoise_jax.config import TrainingConfig
from denoise_jax.errors import CheckpointError, StorageError
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.runs.checkpoint import MAX_FAILED_SAVES, Checkpointer
from denoise_jax.runs.fingerprints import fingerprints
from denoise_jax.training.optimizer import make_optimizer
from denoise_jax.training.state import abstract_state, create_state

FILES = {"sentencepiece.model": b"model", "vocabulary.json": b"{}"}
DATA = {"shard_00000-of-00002": b"\x00\x01", "shard_00001-of-00002": bytes(range(256))}


def _target(config, parallel):
    config = config.replace(parallel=parallel)
    devices = math.prod(parallel.values()) if parallel else 1
    mesh = make_mesh(config.parallel, jax.devices()[:devices])
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    return config, mesh, optimizer, abstract_state(config, optimizer, mesh)


@pytest.fixture(scope="module")
def state(tiny_config):
    config, mesh, optimizer, _ = _target(tiny_config, {"data": 2, "fsdp": 2})
    return create_state(config, optimizer, mesh)


@pytest.fixture
def saved(tmp_path, tiny_config, state):
    checkpoints = Checkpointer(tmp_path / "checkpoints", tiny_config.training)
    for step in (3, 6):
        checkpoints.save(step, state, config=tiny_config, vocabulary=FILES, data=DATA)
    checkpoints.close()
    return tmp_path / "checkpoints"


def _assert_same(first, second):
    for one, two in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(one, two)


def test_moments_in_bfloat16_are_restored_and_verified(tmp_path, tiny_config):
    config = tiny_config.replace(optimizer={"first_moment_dtype": "bfloat16"})
    config, mesh, optimizer, target = _target(config, {"data": 2})
    state = create_state(config, optimizer, mesh)
    state["opt_state"] = jax.tree.map(
        lambda leaf: jnp.full_like(leaf, 0.3) if leaf.dtype == jnp.bfloat16 else leaf, state["opt_state"]
    )
    checkpoints = Checkpointer(tmp_path / "checkpoints", config.training)
    checkpoints.save(3, state, config=config, vocabulary=FILES, data=DATA)
    checkpoints.close()
    restored = Checkpointer(tmp_path / "checkpoints", read_only=True).restore(3, target)
    _assert_same(restored, state)
    assert any(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(restored))


@pytest.mark.parametrize("parallel", [{"data": 2, "fsdp": 2}, {"data": 1, "fsdp": 2, "tensor": 2}])
def test_a_state_is_restored_bit_for_bit_on_any_mesh(saved, tiny_config, state, parallel):
    target = _target(tiny_config, parallel)[3]
    restored = Checkpointer(saved, read_only=True).restore(6, target)
    _assert_same(restored, state)
    for leaf, wanted in zip(jax.tree.leaves(restored), jax.tree.leaves(target), strict=True):
        assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim)


@contextlib.contextmanager
def no_file_larger_than(size):
    """Writes fail as on a full disk, but for another reason."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_parameters_can_be_restored_alone(saved, tiny_config, state):
    target = {"params": _target(tiny_config, {})[3]["params"]}
    restored = Checkpointer(saved, read_only=True).restore(6, target)
    assert list(restored) == ["params"]
    _assert_same(restored["params"], state["params"])


def test_files_are_restored(saved, tiny_config):
    contents = Checkpointer(saved, read_only=True).contents(3)
    assert contents.config == tiny_config
    assert contents.vocabulary == FILES
    assert contents.data == DATA


def test_changed_bytes_are_noticed(saved, tiny_config):
    target = _target(tiny_config, {})[3]
    for file in (saved / "6" / "state").glob("**/d/*"):
        content = bytearray(file.read_bytes())
        for place in range(len(content) // 3, len(content), max(len(content) // 3, 1)):
            content[place : place + 8] = bytes(255 - byte for byte in content[place : place + 8])
        file.write_bytes(content)
    checkpoints = Checkpointer(saved)
    with pytest.raises(CheckpointError, match=r"checkpoint .*6 (is damaged|cannot be read)"):
        checkpoints.restore(6, target)
    checkpoints.set_aside(6)
    assert checkpoints.steps() == [3]
    assert (saved / "damaged-6").is_dir(), "a damaged checkpoint is kept"
    checkpoints.restore(3, target)


def test_a_missing_file_is_reported_in_one_line(saved, tiny_config):
    for file in (saved / "6" / "state").glob("**/d/*"):
        file.unlink()
    with pytest.raises(CheckpointError, match="cannot be read") as raised:
        Checkpointer(saved, read_only=True).restore(6, _target(tiny_config, {})[3])
    assert "\n" not in str(raised.value)


def test_changed_position_in_the_data_is_noticed(saved):
    (saved / "6" / "files" / "data" / "shard_00001-of-00002").write_bytes(bytes(256))
    with pytest.raises(CheckpointError, match="shard_00001-of-00002 has changed since it was saved"):
        Checkpointer(saved, read_only=True).contents(6)


def test_a_missing_configuration_is_reported(saved):
    (saved / "6" / "files" / "config.json").unlink()
    with pytest.raises(CheckpointError, match="not complete"):
        Checkpointer(saved, read_only=True).contents(6)


def test_a_save_that_fails_leaves_nothing_and_the_next_one_is_written(saved, tiny_config, state, capsys):
    checkpoints = Checkpointer(saved, tiny_config.training)
    with no_file_larger_than(4096):
        checkpoints.save(9, state, config=tiny_config, vocabulary=FILES, data=DATA)
        assert not checkpoints.wait()
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"denoise-jax: a checkpoint in .* could not be written: .*; trying again", line)
    checkpoints.save(9, state, config=tiny_config, vocabulary=FILES, data=DATA)
    assert {entry.name for entry in saved.iterdir()} >= {"3", "6"}
    checkpoints.close()
    assert {entry.name for entry in saved.iterdir()} == {"3", "6", "9"}
    _assert_same(Checkpointer(saved, read_only=True).restore(9, _target(tiny_config, {})[3]), state)


def test_saves_that_keep_failing_end_the_run(saved, tiny_config, state):
    checkpoints = Checkpointer(saved, tiny_config.training)
    with no_file_larger_than(4096):
        for step in range(9, 8 + MAX_FAILED_SAVES):
            checkpoints.save(step, state, config=tiny_config, vocabulary=FILES, data=DATA)
            assert not checkpoints.wait()
        checkpoints.save(step + 1, state, config=tiny_config, vocabulary=FILES, data=DATA)
        with pytest.raises(StorageError, match="could not be written"):
            checkpoints.wait()
    assert Checkpointer(saved).steps() == [3, 6]


def test_old_checkpoints_are_deleted_except_at_multiples_of_keep_every(tmp_path, tiny_config, state):
    training = tiny_config.training.replace(keep_checkpoints=2, keep_every=4)
    checkpoints = Checkpointer(tmp_path, training)
    for step in (2, 4, 6, 8, 10):
        checkpoints.save(step, {"step": state["step"]}, config=tiny_config, vocabulary={}, data={})
    checkpoints.close()
    assert Checkpointer(tmp_path, read_only=True).steps() == [4, 8, 10]


def test_a_flipped_bit_or_another_order_changes_the_fingerprint():
    values = jax.random.normal(jax.random.key(0), (6, 5))
    base = fingerprints({"x": values})["x"]
    assert base == fingerprints({"x": jnp.array(values)})["x"]
    assert base != fingerprints({"x": values[::-1]})["x"]
    bits = np.asarray(values).view(np.uint32)
    for index in (0, 7, 29):
        for bit in (0, 12, 31):
            flipped = bits.copy()
            flipped.flat[index] ^= np.uint32(1 << bit)
            assert base != fingerprints({"x": jnp.asarray(flipped.view(np.float32))})["x"]


@pytest.mark.parametrize(("metric", "best"), [("loss", 2), ("hidden_accuracy", 1)])
def test_the_best_the_newest_and_every_nth_are_kept(tmp_path, metric, best):
    settings = {"keep_checkpoints": 1, "keep_every": 4, "keep_best": 1, "best_metric": metric}
    training = TrainingConfig(num_steps=6, **settings)
    losses = {1: 3.0, 2: 1.0, 3: 2.0, 5: 2.5}
    config = quickstart.config()
    checkpoints = Checkpointer(tmp_path, training)
    for step in range(1, 7):
        metrics = {"loss": losses[step], "hidden_accuracy": losses[step]} if step in losses else None
        checkpoints.save(
            step, {"params": jnp.ones(3)}, config=config, vocabulary={}, data={}, metrics=metrics
        )
    checkpoints.close()
    assert Checkpointer(tmp_path, read_only=True).steps() == [best, 4, 6]
    assert Checkpointer(tmp_path, training).steps() == [best, 4, 6]
