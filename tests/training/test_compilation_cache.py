"""The compilation cache beside a run."""

import jax
import pytest

from denoise_jax.training.compilation_cache import FOLDER, use_compilation_cache


@pytest.fixture
def cache_folder():
    """Reads and restores JAX's setting."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield lambda: jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", before)


def test_runs_beside_each_other_share_a_folder(tmp_path, cache_folder):
    use_compilation_cache(tmp_path / "first")
    assert cache_folder().startswith(str(tmp_path / FOLDER / "cpu-")), "one for each kind of CPU"


def test_a_folder_can_be_given(tmp_path, cache_folder):
    use_compilation_cache(tmp_path / "first", tmp_path / "mine")
    assert cache_folder().startswith(str(tmp_path / "mine"))


def test_what_is_set_already_stays(tmp_path, cache_folder):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "set"))
    use_compilation_cache(tmp_path / "first", tmp_path / "mine")
    assert cache_folder() == str(tmp_path / "set")
