"""Models are loaded from a run or from one checkpoint folder; what is neither is reported in one line."""

import shutil

import jax
import numpy as np
import pytest

from denoise_jax.errors import CheckpointError
from denoise_jax.runs.load_model import load_model, open_checkpoint
from tests.runs.helpers import CONFIG_OF_0_1_0


def test_the_newest_checkpoint_of_a_run_or_the_one_of_a_step(finished_run):
    newest, older = load_model(finished_run), load_model(finished_run, 3)
    assert (newest.step, older.step, newest.run) == (6, 3, finished_run)
    alone = load_model(finished_run / "checkpoints" / "3")
    assert (alone.step, alone.run, alone.config) == (3, None, older.config)
    jax.tree.map(np.testing.assert_array_equal, alone.params, older.params)


def test_what_cannot_be_loaded_is_reported(finished_run, tmp_path):
    with pytest.raises(CheckpointError, match="is neither a run nor a checkpoint"):
        open_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint of step 4; it has 3, 6"):
        open_checkpoint(finished_run, 4)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        open_checkpoint(tmp_path)


def test_a_checkpoint_of_version_0_1_0_is_refused_in_one_line(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    files = run / "checkpoints" / "6" / "files"
    (files / "config.json").write_text(CONFIG_OF_0_1_0)
    for checksums in files.glob("checksums-*"):
        checksums.write_text("{}")
    with pytest.raises(
        CheckpointError, match=r"6/files/config.json was written by denoise_jax 0\.1\.0"
    ) as raised:
        load_model(run)
    assert "\n" not in str(raised.value)
