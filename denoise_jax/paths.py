"""Paths on the local disk and in buckets, gs:// and s3://, through etils.epath and fsspec."""

import functools
import os
import re
from pathlib import Path

from denoise_jax.errors import ConfigError, StorageError, is_temporary, reason_of

BUCKETS = ("gs", "s3")


def to_path(path: str | os.PathLike) -> Path:
    """A local path as `pathlib.Path`; a path in a bucket as `epath.Path`, which has the same methods.

    Raises:
      ConfigError: another scheme than gs:// and s3://, a bucket without a name, or a path that has lost a
        slash, as in `pathlib.Path("gs://bucket/run")`.
    """
    text = os.fspath(path)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):(/+)(.*)", text)
    if scheme is None:
        return Path(path)
    name, slashes, rest = scheme.groups()
    known = ", ".join(f"{bucket}://" for bucket in BUCKETS)
    if name not in BUCKETS:
        raise ConfigError(f"{text}: {name}:// is not supported; use a local path or one of {known}")
    if slashes != "//":
        raise ConfigError(f"{text} is no path in a bucket; write {name}://{rest.lstrip('/')}, as a string")
    if not rest.strip("/"):
        raise ConfigError(f"{text} names no bucket; write {name}://BUCKET/FOLDER")
    return _bucket_path(text)


def reachable_path(path: str | os.PathLike) -> Path:
    """As `to_path`, once it is known that a bucket answers: `exists` is false for one that does not.

    Raises:
      ConfigError: as for `to_path`, or the bucket may not be read.
      StorageError: the bucket does not answer.
    """
    path = to_path(path)
    if is_remote(path):
        _check_bucket(os.fspath(path).split("/")[0].rstrip(":"), os.fspath(path).split("/")[2])
    return path


def is_remote(path: os.PathLike) -> bool:
    """Whether a path made by `to_path` is in a bucket."""
    return "://" in os.fspath(path)


def absolute(path: Path) -> Path:
    """`path.absolute()`, which for one in a bucket would be a local path below the working directory."""
    return path if is_remote(path) else path.absolute()


@functools.cache
def _check_bucket(scheme: str, bucket: str) -> None:
    import fsspec

    try:
        fsspec.filesystem(scheme).info(f"{bucket}/denoise_jax-is-here")
    except FileNotFoundError:
        return
    except Exception as error:  # aiohttp, gcsfs, google.auth and botocore raise their own
        reason = reason_of(error)
        if is_temporary(error):
            raise StorageError(f"{scheme}://{bucket} cannot be reached: {reason}") from None
        raise ConfigError(
            f"{scheme}://{bucket} cannot be read: {reason}; log in, and check the permissions"
        ) from None


def _bucket_path(text: str) -> Path:
    import fsspec
    from etils import epath

    # Other processes write to the same folders, so listings must not be cached.
    for protocol in ("gcs", "s3"):
        fsspec.config.conf.setdefault(protocol, {})["use_listings_cache"] = False
    try:
        fsspec.get_filesystem_class(text.split("://")[0])
    except ImportError as error:
        raise ConfigError(f"{text}: {error}") from None
    return epath.Path(text)
