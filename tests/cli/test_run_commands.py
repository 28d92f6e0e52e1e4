"""`runs`, `checkpoints` and `resume`: tables or JSON, and exit codes."""

import json
import shutil

import pytest

from denoise_jax.cli.main import main


@pytest.fixture
def run(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "run")


def test_runs_prints_json_or_a_table(run, capsys):
    assert main(["runs", str(run.parent), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert set(found) == {"run", "name", "state", "step", "num_steps", "loss", "updated"}
    assert main(["runs", str(run.parent)]) == 0
    assert "finished" in capsys.readouterr().out
    assert main(["runs", str(run / "nowhere")]) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_checkpoints_prints_json_or_a_table(run, capsys):
    assert main(["checkpoints", str(run), "--verify"]) == 0
    assert capsys.readouterr().out.count("intact") == 2
    (run / "checkpoints" / "3" / "files" / "config.json").write_text("{}")
    assert main(["checkpoints", str(run), "--verify", "--json"]) == 1
    assert [item["verified"] for item in json.loads(capsys.readouterr().out)] == [False, True]


def test_resume_goes_on_with_the_stored_configuration(run, capsys):
    assert main(["resume", str(run)]) == 0
    assert "done at step 6" in capsys.readouterr().out
    assert main(["resume", str(run), "--training.num-steps", "8"]) == 0
    printed = capsys.readouterr().out
    assert "resuming at step 6" in printed and "done at step 8" in printed
    assert main(["resume"]) == 2
    assert "give the folder of the run first" in capsys.readouterr().err
    assert main(["resume", str(run / "nowhere")]) == 2
    assert "no configuration file" in capsys.readouterr().err
