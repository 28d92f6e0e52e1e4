"""What a run starts from: its vocabulary's size, or the architecture and vocabulary of a warm start."""

import shutil

import pytest

from denoise_jax.errors import CheckpointError, ConfigError, DataError
from denoise_jax.runs.resolve_run import resolve_run


@pytest.fixture
def warm_start(tiny_config, finished_run):
    """A configuration that says nothing of the source's architecture or vocabulary."""
    return tiny_config.replace(
        model={"vocab_size": None, "embed_dim": 768, "num_heads": 12, "dropout": 0.3},
        data={"vocabulary": None},
        training={"init_from": str(finished_run)},
    )


def test_the_size_of_the_vocabulary_is_filled_in(tiny_config, tmp_path):
    unset = tiny_config.replace(model={"vocab_size": None})
    assert resolve_run(unset, tmp_path).config == tiny_config
    with pytest.raises(ConfigError, match="model.vocab_size=400, but the vocabulary .* has 512 ids"):
        resolve_run(tiny_config.replace(model={"vocab_size": 400}), tmp_path)


def test_a_warm_start_takes_architecture_and_vocabulary_of_its_source(warm_start, tiny_config, tmp_path):
    resolved = resolve_run(warm_start, tmp_path)
    assert resolved.config.model == tiny_config.model.replace(dropout=0.3)
    assert resolved.vocabulary.fingerprint() == resolved.source.vocabulary.fingerprint()


def test_a_started_run_does_not_need_its_source(warm_start, tiny_config, finished_run, tmp_path):
    source = shutil.copytree(finished_run, tmp_path / "source")
    config = warm_start.replace(training={"init_from": str(source)})
    resolved, run = resolve_run(config, tmp_path / "run"), tmp_path / "run"
    shutil.copytree(finished_run / "vocabulary", run / "vocabulary")
    (run / "config.json").write_text(resolved.config.model_dump_json())
    shutil.rmtree(source)
    again = resolve_run(config, run)
    assert (again.config, again.source) == (resolved.config, None)


def test_a_lost_vocabulary_is_read_from_the_run(tiny_config, finished_run, tmp_path):
    lost = tiny_config.replace(data={"vocabulary": str(tmp_path / "nowhere")})
    assert len(resolve_run(lost, finished_run).vocabulary) == 512
    with pytest.raises(DataError):
        resolve_run(lost, tmp_path)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data": {"task": None}}, ConfigError, "data.task is not set; give the task"),
        ({"model": {"max_positions": 256}}, ConfigError, "is above the 128 learned positions"),
        (
            {"training": {"init_from": "nowhere"}},
            CheckpointError,
            "nowhere is neither a run nor a checkpoint",
        ),
    ],
)
def test_what_cannot_start_is_refused(warm_start, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        resolve_run(warm_start.replace(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()
