"""Hints for misspelt names; which errors are worth another try."""

import errno

import pytest

from denoise_jax.errors import ConfigError, StorageError, is_temporary, nearest, reason_of


@pytest.mark.parametrize(
    ("error", "temporary"),
    [
        (StorageError("full"), True),
        (ConfigError("wrong"), False),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.ECONNREFUSED, "Connection refused"), True),
        (TimeoutError(), True),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), False),
    ],
)
def test_only_full_and_unreachable_storage_is_worth_another_try(error, temporary):
    assert is_temporary(error) is temporary


def test_close_names_are_suggested_and_otherwise_all_are_listed():
    known = ["quickstart", "bart_base", "bart_large"]
    assert nearest("quickstrat", known) == "did you mean quickstart?"
    assert nearest("bart_bases", known) == "did you mean bart_base or bart_large?"
    assert nearest("t5", known, otherwise="see --help") == "see --help"
    assert nearest("t5", iter(known)) == "choose from quickstart, bart_base, bart_large"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("\nNOT_FOUND: no such file\nmore lines"), "NOT_FOUND: no such file"),
        (FileNotFoundError("http://server/object"), "FileNotFoundError http://server/object"),
        (TimeoutError(), "TimeoutError"),
        (OSError(errno.ENOSPC, "No space left on device"), "[Errno 28] No space left on device"),
    ],
)
def test_a_reason_is_one_line_that_says_something(error, reason):
    assert reason_of(error) == reason
