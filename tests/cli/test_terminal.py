"""Standard error stays clean: start-up messages appear only if something fails, bars only in a terminal."""

import os

import pytest

from denoise_jax.cli.terminal import counter, quiet
from denoise_jax.errors import UserError


@pytest.mark.parametrize(
    ("error", "printed"), [(None, ""), (UserError, ""), (ImportError, "from C++\n")], ids=str
)
def test_messages_are_printed_only_if_the_block_fails(error, printed, capfd):
    try:
        with quiet():
            os.write(2, b"from C++\n")
            if error is not None:
                raise error
    except (UserError, ImportError) as raised:
        assert type(raised) is error  # noqa: PT017
    assert capfd.readouterr().err == printed
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_no_progress_bar_outside_a_terminal(capfd):
    with counter("examples") as progress:
        progress(1, 2)
        progress(2)
    assert capfd.readouterr() == ("", "")
