"""Real Orbax checkpoints: restored bit for bit on any mesh; damage is noticed and costs one checkpoint."""

import contextlib
import math
import os
import re
import resource
import shutil

import absl.logging
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import multihost_utils

from configs import quickstart
from denoise_jax.config import TrainingConfig
from denoise_jax.errors import CheckpointError, ConfigError, StorageError
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.paths import to_path
from denoise_jax.runs import checkpoint
from denoise_jax.runs.checkpoint import MAX_FAILED_SAVES, Checkpointer
from denoise_jax.runs.checkpoint_items import FilesHandler, FilesSave, StateHandler
from denoise_jax.runs.run_folder import check_usable_path, newest_step
from denoise_jax.training.optimizer import make_optimizer
from denoise_jax.training.state import abstract_state, create_state

FILES = {"sentencepiece.model": b"model", "vocabulary.json": b"{}"}
DATA = {"shard_00000-of-00002": b"\x00\x01", "shard_00001-of-00002": bytes(range(256))}


@pytest.fixture(autouse=True)
def _quiet_absl():
    """As on the command line: what Orbax logs would fill pytest's own files where files are limited."""
    verbosity = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.FATAL)
    yield
    absl.logging.set_verbosity(verbosity)


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


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory, tiny_config, state):
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    checkpoints = Checkpointer(folder, tiny_config.training)
    for step in (3, 6):
        checkpoints.save(step, state, config=tiny_config, vocabulary=FILES, data=DATA)
    checkpoints.close()
    return folder


@pytest.fixture
def saved(tmp_path, saved_once):
    return shutil.copytree(saved_once, tmp_path / "checkpoints")


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


def test_saving_does_not_poll_for_a_preemption(tmp_path, tiny_config, state, monkeypatch):
    """The training loop counts its polls; one with the number of a step would make JAX lose a preemption."""
    polls = []
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", lambda n: bool(polls.append(n)))
    checkpoints = Checkpointer(tmp_path / "checkpoints", tiny_config.training)
    checkpoints.save(3, state, config=tiny_config, vocabulary=FILES, data=DATA)
    checkpoints.close()
    assert checkpoints.steps() == [3]
    assert not polls


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


@pytest.mark.parametrize("name", ["seed[1]", "[!x]", "a*[b-c]?"])
def test_a_folder_whose_name_is_a_pattern_holds_checkpoints(tmp_path, name):
    state = {"params": jnp.arange(12.0), "step": jnp.int32(3)}
    folder = tmp_path / name / "checkpoints"
    checkpoints = Checkpointer(folder)
    checkpoints.save(3, state, config=quickstart.config(), vocabulary=FILES, data=DATA)
    checkpoints.close()
    _assert_same(Checkpointer(folder, read_only=True).verify(3), state)
    assert newest_step(tmp_path / name) == 3


@pytest.mark.parametrize("path", ["gs://pods/seed[1]", "gs://pods/a*b", "gs://pods/x?/run"])
def test_a_pattern_in_a_bucket_is_refused(path):
    with pytest.raises(ConfigError, match="name several objects in a bucket; rename it"):
        check_usable_path(to_path(path))


@pytest.mark.parametrize("name", ["a\\b", "x\\", "caf\udce9"])
def test_a_folder_where_checkpoints_would_be_lost_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="(has a backslash|is no text in UTF-8).*rename it"):
        Checkpointer(tmp_path / name / "checkpoints")
    assert list(tmp_path.iterdir()) == []


def test_the_first_checkpoint_is_read_back(tmp_path, tiny_config, state, monkeypatch):
    monkeypatch.setattr(checkpoint, "_READ_AT_ONCE", 2**16)  # several parts
    Checkpointer(tmp_path / "read").save(3, state, config=tiny_config, vocabulary=FILES, data=DATA)
    monkeypatch.setattr(StateHandler, "finalize", lambda *_: None)  # as if Orbax did not find its parts
    checkpoints = Checkpointer(tmp_path / "lost")
    with pytest.raises(CheckpointError, match="first checkpoint was written and cannot be read back"):
        checkpoints.save(3, state, config=tiny_config, vocabulary=FILES, data=DATA)
    assert (tmp_path / "lost" / "damaged-3").is_dir()
    assert Checkpointer(tmp_path / "read").steps() == [3]


@pytest.mark.parametrize("step", [4, 9, 30])
def test_a_renamed_checkpoint_is_not_that_of_its_name(saved, tiny_config, step):
    (saved / "6").rename(saved / str(step))
    assert newest_step(saved.parent) == 3
    checkpoints = Checkpointer(saved)
    for read in (checkpoints.contents, checkpoints.verify):
        with pytest.raises(CheckpointError, match=f"checkpoint .*{step} .*of step 6"):
            read(step)


@pytest.mark.parametrize("item", ["state", "files", "meta"])
def test_a_checkpoint_put_together_from_two_is_damaged(saved, tiny_config, state, item):
    other = saved.parent / "other"
    checkpoints = Checkpointer(other)
    changed = {**state, "step": state["step"] + 6}
    checkpoints.save(9, changed, config=tiny_config, vocabulary=FILES, data=DATA)
    checkpoints.close()
    shutil.rmtree(saved / "6" / item)
    shutil.copytree(other / "9" / item, saved / "6" / item)
    with pytest.raises(CheckpointError, match="step"):
        Checkpointer(saved, read_only=True).verify(6)


def test_the_state_is_that_of_the_step(tmp_path, tiny_config):
    state = {"params": jnp.ones(3), "step": jnp.int32(3)}
    FilesHandler().save(tmp_path, FilesSave(6, {"metadata": b'{"step": 3, "fingerprints": {}}'}))
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpointer(folder)
    checkpoints.save(6, state, config=tiny_config, vocabulary=FILES, data=DATA)
    checkpoints.close()
    shutil.rmtree(folder / "6" / "meta")
    shutil.copytree(tmp_path, folder / "6" / "meta", ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(CheckpointError, match="its state is of step 3"):
        Checkpointer(folder, read_only=True).verify(6)


SHAPES = ["{}", "[]", "null", "3", '{"step": "6"}', "[" * 10_000, "\udcff"]


@pytest.mark.parametrize("text", SHAPES, ids=range(len(SHAPES)))
@pytest.mark.parametrize("file", ["files/checksums-of-process-0.json", "meta/checksums-of-process-0.json"])
def test_a_record_of_another_shape_is_damage(saved, file, text):
    (saved / "6" / file).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match="is not complete: .*is not a record of files"):
        Checkpointer(saved, read_only=True).verify(6)


@pytest.mark.parametrize("text", SHAPES, ids=range(len(SHAPES)))
def test_fingerprints_of_another_shape_are_damage(saved, text):
    item = saved / "6" / "meta"
    FilesHandler().save(item, FilesSave(6, {"metadata": text.encode(errors="surrogateescape")}))
    with pytest.raises(CheckpointError, match="is not complete"):
        Checkpointer(saved, read_only=True).verify(6)


@pytest.mark.parametrize("item", ["files", "meta"])
def test_a_missing_record_is_damage(saved, item):
    (saved / "6" / item / "checksums-of-process-0.json").unlink()
    with pytest.raises(CheckpointError, match="is not complete: .*checksums-of-process-0.json"):
        Checkpointer(saved, read_only=True).verify(6)


@pytest.mark.parametrize(("old", "new"), [("params", "parems"), ("opt_state", "opt_stete"), ("step", "stop")])
def test_a_changed_name_of_an_array_is_damage(saved, tiny_config, old, new):
    metadata = saved / "6" / "state" / "_METADATA"
    metadata.write_text(metadata.read_text().replace(old, new))
    checkpoints = Checkpointer(saved, read_only=True)
    for read in (checkpoints.verify, lambda step: checkpoints.restore(step, _target(tiny_config, {})[3])):
        with pytest.raises(CheckpointError, match="6 (is damaged|cannot be read)") as raised:
            read(6)
        assert "\n" not in str(raised.value)


def test_a_checkpoint_can_be_damaged_more_than_once(saved, tiny_config, state):
    for name in ("damaged-6", "damaged-6-2", "damaged-6-3"):
        checkpoints = Checkpointer(saved, tiny_config.training)
        checkpoints.set_aside(6)
        assert (saved / name).is_dir()
        assert checkpoints.steps() == [3]
        checkpoints.save(6, state, config=tiny_config, vocabulary=FILES, data=DATA)
        checkpoints.close()


@pytest.mark.parametrize("copy", [8, 30])
def test_a_save_that_is_left_out_ends_the_run(saved, tiny_config, state, copy):
    shutil.copytree(saved / "3", saved / str(copy))
    checkpoints = Checkpointer(saved, tiny_config.training)
    with pytest.raises(CheckpointError, match=f"7 was not saved: .* has step {copy}"):
        checkpoints.save(7, state, config=tiny_config, vocabulary=FILES, data=DATA)
    checkpoints.close()


def test_a_checkpoint_is_on_the_disk_before_it_is_listed(tmp_path, tiny_config, state, monkeypatch):
    flushed, fsync = set(), os.fsync

    def traced(descriptor):
        flushed.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", traced)
    checkpoints = Checkpointer(tmp_path)
    checkpoints.save(3, state, config=tiny_config, vocabulary=FILES, data=DATA)
    checkpoints.close()
    paths = [tmp_path, tmp_path / "3", *(tmp_path / "3").rglob("*")]
    assert [path for path in paths if path.stat().st_ino not in flushed] == []


def test_what_orbax_writes_just_before_the_renaming_may_be_lost(saved, state):
    for name in ("_CHECKPOINT_METADATA", "commit_success.txt"):
        (saved / "6" / name).write_bytes(b"")
    _assert_same(Checkpointer(saved).verify(6), state)
