"""Local paths and buckets; nothing else, and no bucket becomes a local folder by accident."""

from pathlib import Path

import pytest

from denoise_jax.errors import ConfigError
from denoise_jax.paths import absolute, is_remote, to_path


def test_local_paths_are_pathlibs():
    for path in ("runs/a", Path("/x/y"), "a b/c.json"):
        assert to_path(path) == Path(path)
        assert type(to_path(path)) is type(Path(path))
        assert not is_remote(to_path(path))


def test_paths_in_a_bucket_keep_their_scheme():
    run = to_path("gs://bucket/run")
    assert is_remote(run)
    assert str(run / "checkpoints" / "10") == "gs://bucket/run/checkpoints/10"
    assert to_path(run) == run
    assert absolute(run) == run


REFUSED = {
    "another scheme": (
        "hdfs://host/run",
        "hdfs:// is not supported; use a local path or one of gs://, s3://",
    ),
    "a slash lost by pathlib": (Path("gs://bucket/run"), "write gs://bucket/run, as a string"),
    "no bucket": ("gs://", "names no bucket"),
}


@pytest.mark.parametrize(("path", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_path_is_refused(path, message):
    with pytest.raises(ConfigError, match=message):
        to_path(path)
