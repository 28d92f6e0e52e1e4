"""Standard error stays clean: start-up messages appear only if something fails, bars only in a terminal."""

import json
import os

import pytest

from denoise_jax.cli.main import main
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


@pytest.mark.parametrize(
    ("flags", "reported"),
    [
        (["bart_base"], None),
        (["modern_base"], "model.gated_ffn=True"),
        (["bart_base", "--model.positions", "rotary"], "model.positions='rotary' cannot be exported"),
        (["bart_base", "--model.norm", "rms"], "model.norm='rms' cannot be exported"),
    ],
)
def test_models_that_cannot_be_exported_are_reported_before_a_run(flags, reported, capsys):
    assert main(["config", *flags]) == 0
    printed = capsys.readouterr()
    json.loads(printed.out)
    lines = printed.err.splitlines()
    if reported is None:
        assert lines == []
    else:
        (line,) = lines
        assert reported in line and "BART and mBART in Transformers have" in line
