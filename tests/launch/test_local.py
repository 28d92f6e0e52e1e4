"""launch.local: restarts and exit codes; tests/end_to_end/test_processes.py runs real training under it."""

import sys

import pytest

from launch import local


@pytest.fixture
def program(tmp_path, monkeypatch):
    """program(body): runs Python in place of `denoise-jax`; it gets the process id as its last argument."""

    def program(body: str) -> list[str]:
        file = tmp_path / "program.py"
        file.write_text(f"import pathlib, sys, time\nfolder = pathlib.Path({str(tmp_path)!r})\n{body}")
        monkeypatch.setattr(local, "COMMAND", [sys.executable, str(file)])
        return ["train"]

    return program


def test_processes_get_their_id_and_devices(program, tmp_path):
    command = program(
        "import os\n(folder / sys.argv[-1]).write_text(' '.join([os.environ['XLA_FLAGS'], *sys.argv[1:]]))"
    )
    assert local.run(command, processes=3, devices=5) == 0
    for index in "012":
        text = (tmp_path / index).read_text()
        assert "--xla_force_host_platform_device_count=5 train --coordinator 127.0.0.1:" in text
        assert text.endswith(f"--num-processes 3 --heartbeat-timeout 10 --process-id {index}")


@pytest.mark.parametrize("code", [0, 1, 2])
def test_codes_that_are_not_retried_are_returned(program, code):
    assert local.run(program(f"sys.exit({code})")) == code


def test_all_are_started_again_if_one_dies(program, tmp_path):
    body = "once = folder / 'once'\nif sys.argv[-1] == '1' and not once.exists():\n"
    body += "    once.touch()\n    sys.exit(134)"
    assert local.run(program(body)) == 0
    assert (tmp_path / "once").exists()


def test_it_gives_up_after_some_restarts(program, capsys):
    assert local.run(program("sys.exit(134)"), restarts=2) == 1
    assert capsys.readouterr().err.count("starting again") == 2


def test_killed_processes_are_started_again(program, capsys):
    body = "done = folder / 'done'\nif not done.exists():\n    done.touch()\n    time.sleep(30)"
    assert local.run(program(body), processes=1, kill_every=0.5, kills=1) == 0
    assert "killing process 0" in capsys.readouterr().err
