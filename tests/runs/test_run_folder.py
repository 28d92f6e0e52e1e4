"""What a run folder accepts: the same run, and changes that leave it the same run."""

import pytest

from denoise_jax.config import Config
from denoise_jax.errors import CheckpointError, ConfigError
from denoise_jax.runs import run_folder

VOCABULARY = {"sentencepiece.model": b"model"}


def _changed(config, **sections):
    values = config.model_dump()
    for section, fields in sections.items():
        values[section] = {**values[section], **fields} if isinstance(fields, dict) else fields
    return Config.model_validate(values)


def _prepare(folder, config, fingerprint="a"):
    """The notes; the lock is let go at once."""
    notes, held = run_folder.prepare(folder, config, VOCABULARY, fingerprint)
    held.close()
    return notes


@pytest.fixture
def folder(tmp_path, tiny_config):
    assert _prepare(tmp_path / "run", tiny_config) == []
    return tmp_path / "run"


def test_the_same_run_goes_on(folder, tiny_config):
    assert _prepare(folder, tiny_config) == []
    assert run_folder.read_config(folder) == tiny_config
    assert (folder / "vocabulary" / "sentencepiece.model").read_bytes() == b"model"


def test_length_and_mesh_may_change_and_are_told(folder, tiny_config):
    longer = _changed(tiny_config, training={"num_steps": 60}, parallel={"fsdp": 2})
    notes = _prepare(folder, longer)
    assert notes == ["parallel.fsdp: 1 → 2", "training.num_steps: 6 → 60"]
    assert run_folder.read_config(folder) == longer


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": {"ffn_dim": 128}}, "model.ffn_dim was 64, now 128"),
        ({"data": {"batch_size": 32}}, "data.batch_size was 16, now 32"),
        ({"optimizer": {"learning_rate": 0.1}}, "optimizer.learning_rate was 0.003, now 0.1"),
        ({"training": {"seed": 9}}, "training.seed was 0, now 9"),
        ({"name": "other"}, "holds a run of 'quickstart', not of 'other'"),
    ],
)
def test_another_run_is_refused_by_name(folder, tiny_config, change, told):
    with pytest.raises(ConfigError, match=told):
        _prepare(folder, _changed(tiny_config, **change))
    assert run_folder.read_config(folder) == tiny_config


def test_another_vocabulary_is_refused_and_another_path_is_not(folder, tiny_config):
    moved = _changed(tiny_config, data={"vocabulary": "elsewhere"})
    _prepare(folder, moved)
    with pytest.raises(ConfigError, match="not the vocabulary of the run"):
        _prepare(folder, moved, "b")


def test_a_folder_of_something_else_is_refused(tmp_path, tiny_config):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="is not a run"):
        _prepare(tmp_path, tiny_config)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_reading_what_is_no_run(tmp_path, folder):
    with pytest.raises(CheckpointError, match="is not a run"):
        run_folder.read_config(tmp_path)
    (folder / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not a configuration"):
        run_folder.read_config(folder)


def test_one_process_at_a_time_and_the_second_changes_nothing(folder, tiny_config):
    _, held = run_folder.prepare(folder, tiny_config, VOCABULARY, "a")
    with pytest.raises(ConfigError, match="another process is training"):
        _prepare(folder, _changed(tiny_config, training={"num_steps": 99}))
    held.close()
    assert run_folder.read_config(folder) == tiny_config


def test_a_run_that_kept_only_checkpoints_is_known_by_them(tmp_path, tiny_config):
    kept = tmp_path / "checkpoints" / "3" / "files"
    kept.mkdir(parents=True)
    (kept / "config.json").write_text(tiny_config.model_dump_json())
    with pytest.raises(ConfigError, match="model.ffn_dim was 64, now 128"):
        _prepare(tmp_path, _changed(tiny_config, model={"ffn_dim": 128}))
    assert _prepare(tmp_path, tiny_config) == []
    assert (tmp_path / "config.json").exists()
