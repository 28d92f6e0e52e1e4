"""A run folder accepts the same run, and changes that leave it the same run; nothing else."""

import pytest

from denoise_jax.errors import CheckpointError, ConfigError
from denoise_jax.runs import run_folder
from denoise_jax.runs.checkpoint_items import FilesHandler, FilesSave
from denoise_jax.vocabulary.load import load_vocabulary
from tests.runs.helpers import CONFIG_OF_0_1_0

VOCABULARY = {"sentencepiece.model": b"model"}


def _prepare(folder, config, fingerprint="a" * 16):
    """The accepted changes; the lock is released at once."""
    changes, lock = run_folder.prepare(folder, config, VOCABULARY, fingerprint)
    lock.close()
    return changes


def _keep(folder, step, config, files=VOCABULARY):
    """The files of a checkpoint of `step`."""
    contents = {"config.json": config.model_dump_json().encode()}
    contents |= {f"vocabulary/{name}": content for name, content in files.items()}
    item = folder / "checkpoints" / str(step) / "files"
    FilesHandler().save(item, FilesSave(step, contents))


@pytest.fixture
def folder(tmp_path, tiny_config):
    assert _prepare(tmp_path / "run", tiny_config) == []
    return tmp_path / "run"


def test_the_same_configuration_resumes_a_run(folder, tiny_config):
    assert _prepare(folder, tiny_config) == []
    assert run_folder.read_config(folder) == tiny_config
    assert (folder / "vocabulary" / "sentencepiece.model").read_bytes() == b"model"


def test_length_and_mesh_may_change_and_are_reported(folder, tiny_config):
    longer = tiny_config.replace(training={"num_steps": 60}, parallel={"fsdp": 2})
    assert _prepare(folder, longer) == ["parallel.fsdp: 1 → 2", "training.num_steps: 6 → 60"]
    assert run_folder.read_config(folder) == longer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"ffn_dim": 128}}, "model.ffn_dim was 64, now 128"),
        ({"data": {"batch_size": 32}}, "data.batch_size was 16, now 32"),
        ({"optimizer": {"learning_rate": 0.1}}, "optimizer.learning_rate was 0.003, now 0.1"),
        ({"loss": {"z_loss": 0.1}}, "loss.z_loss was 0.0, now 0.1"),
        ({"training": {"seed": 9}}, "training.seed was 0, now 9"),
        ({"name": "other"}, "holds a run of 'quickstart', not of 'other'"),
    ],
)
def test_another_run_is_refused_by_field(folder, tiny_config, change, message):
    with pytest.raises(ConfigError, match=message):
        _prepare(folder, tiny_config.replace(**change))
    assert run_folder.read_config(folder) == tiny_config


def test_another_vocabulary_is_refused_and_another_path_is_not(folder, tiny_config):
    moved = tiny_config.replace(data={"vocabulary": "elsewhere"})
    _prepare(folder, moved)
    with pytest.raises(ConfigError, match="not the vocabulary of the run"):
        _prepare(folder, moved, "b" * 16)


def test_a_folder_with_other_files_is_refused(tmp_path, tiny_config):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="is not a run"):
        _prepare(tmp_path, tiny_config)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_is_not_a_run_cannot_be_read(tmp_path, folder):
    with pytest.raises(CheckpointError, match="is not a run"):
        run_folder.read_config(tmp_path)
    (folder / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not a configuration"):
        run_folder.read_config(folder)


def test_one_process_at_a_time_and_the_second_changes_nothing(folder, tiny_config):
    _, lock = run_folder.prepare(folder, tiny_config, VOCABULARY, "a" * 16)
    with pytest.raises(ConfigError, match="another process is training"):
        _prepare(folder, tiny_config.replace(training={"num_steps": 99}))
    lock.close()
    assert run_folder.read_config(folder) == tiny_config


def test_a_run_reduced_to_its_checkpoints_is_recognised(tmp_path, tiny_config, vocabulary_folder):
    vocabulary = load_vocabulary(vocabulary_folder)
    _keep(tmp_path, 3, tiny_config, vocabulary.files())
    with pytest.raises(ConfigError, match="model.ffn_dim was 64, now 128"):
        _prepare(tmp_path, tiny_config.replace(model={"ffn_dim": 128}))
    with pytest.raises(ConfigError, match="not the vocabulary of the run"):
        _prepare(tmp_path, tiny_config, "0" * 16)
    assert _prepare(tmp_path, tiny_config, vocabulary.fingerprint()) == []
    assert (tmp_path / "config.json").exists()


def test_fewer_steps_than_are_done_are_refused_and_nothing_is_written(folder, tiny_config):
    _keep(folder, 6, tiny_config)
    before = (folder / "config.json").read_text()
    with pytest.raises(ConfigError, match="num_steps=4 is below the 6 steps"):
        _prepare(folder, tiny_config.replace(training={"num_steps": 4}))
    assert (folder / "config.json").read_text() == before
    _prepare(folder, tiny_config)


def test_a_run_of_version_0_1_0_is_refused_in_one_line(folder, tiny_config):
    (folder / "config.json").write_text(CONFIG_OF_0_1_0)
    with pytest.raises(CheckpointError, match="was written by denoise_jax 0.1.0.*start a new run") as raised:
        _prepare(folder, tiny_config)
    assert "\n" not in str(raised.value)
    assert (folder / "config.json").read_text() == CONFIG_OF_0_1_0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\x00"])
def test_a_damaged_configuration_is_replaced_by_that_of_the_newest_checkpoint(folder, tiny_config, content):
    _keep(folder, 6, tiny_config)
    (folder / "config.json").write_bytes(content)
    assert run_folder.read_config(folder) == tiny_config
    assert _prepare(folder, tiny_config) == ["config.json: damaged → that of checkpoint 6"]
    assert _prepare(folder, tiny_config) == []


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"a\n"])
def test_a_damaged_fingerprint_is_computed_again(tmp_path, tiny_config, vocabulary_folder, content):
    vocabulary = load_vocabulary(vocabulary_folder)
    own = vocabulary.fingerprint()
    run_folder.prepare(tmp_path / "run", tiny_config, vocabulary.files(), own)[1].close()
    _keep(tmp_path / "run", 6, tiny_config, vocabulary.files())
    (tmp_path / "run" / "vocabulary" / "fingerprint").write_bytes(content)
    with pytest.raises(ConfigError, match="not the vocabulary of the run"):
        run_folder.check(tmp_path / "run", tiny_config, "0" * 16)
    assert run_folder.check(tmp_path / "run", tiny_config, own) == []


@pytest.mark.parametrize("name", ["a\\b", "caf\udce9"])
def test_a_path_that_cannot_hold_checkpoints_is_refused_at_the_start(tmp_path, tiny_config, name):
    with pytest.raises(ConfigError, match="rename it"):
        _prepare(tmp_path / name, tiny_config)
    assert list(tmp_path.iterdir()) == []
