"""Runs that go wrong: a loss that is no number, a damaged checkpoint, a run asked to be shorter."""

import json
import shutil

import jax.numpy as jnp
import optax
import pytest

from denoise_jax.cli.main import main
from denoise_jax.config import Config
from denoise_jax.runs.checkpoint import Checkpointer
from denoise_jax.training import loop
from denoise_jax.training.optimizer import make_optimizer


def _train(config, folder, tmp_path, **sections):
    values = config.model_dump()
    for section, fields in sections.items():
        values[section] = {**values[section], **fields}
    file = tmp_path / "config.json"
    file.write_text(Config.model_validate(values).model_dump_json())
    return main(["train", str(file), "--workdir", str(folder)])


@pytest.fixture(scope="module")
def finished(tiny_config, tmp_path_factory):
    """A run of six steps with checkpoints at 3 and 6."""
    folder = tmp_path_factory.mktemp("finished")
    assert _train(tiny_config, folder / "run", folder) == 0
    return folder / "run"


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def test_what_a_run_leaves(finished):
    assert sorted(entry.name for entry in finished.iterdir() if entry.name != ".lock") == [
        "checkpoints", "config.json", "metrics.jsonl", "plots", "tensorboard", "vocabulary"
    ]  # fmt: skip
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 3, 4, 6]
    assert (finished / "plots" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_and_generate(run, capsys):
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((run / "eval" / "6.json").read_text()) == printed
    assert {"step", "split", "loss", "perplexity", "tokens", "visible_accuracy", "hidden_accuracy"} < set(
        printed
    )
    assert printed["tokens"] == printed["visible"]["tokens"] + printed["hidden"]["tokens"]
    assert printed["tokens"] == sum(kind["tokens"] for kind in printed["kinds"].values())
    assert main(["evaluate", str(run), "--max-batches", "1"]) == 0
    table = capsys.readouterr().out
    assert all(told in table for told in ("visible", "  in place", "hidden", "  masked"))
    assert "deleted" not in table, "kinds that the noise does not make are not shown"
    assert "masked spans: " in table
    assert main(["generate", str(run / "checkpoints" / "3"), "We must <mask>.", "--json"]) == 0
    (filled,) = json.loads(capsys.readouterr().out)
    assert filled["text"] == "We must <mask>."
    assert main(["evaluate", str(run), "--split", "dev"]) == 2
    assert "no split 'dev'" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--step", "4"]) == 2
    assert "no checkpoint of step 4; it has 3, 6" in capsys.readouterr().err


@pytest.mark.slow
def test_nan_names_the_step_and_keeps_what_was_saved(tiny_config, tmp_path, capsys, monkeypatch):
    def exploding(config, num_steps):
        jump = optax.scale_by_schedule(lambda count: jnp.where(count < 3, 1.0, jnp.inf))
        return optax.chain(make_optimizer(config, num_steps), jump)

    monkeypatch.setattr(loop, "make_optimizer", exploding)
    assert _train(tiny_config, tmp_path / "run", tmp_path, training={"save_every": 1}) == 1
    error = capsys.readouterr().err
    assert error.startswith("denoise-jax train: step 4 gave loss ")
    assert error.count("\n") == 1
    assert Checkpointer(tmp_path / "run" / "checkpoints", read_only=True).steps()[-1] == 3


def test_damage_falls_back_to_the_checkpoint_before(run, tiny_config, tmp_path, capsys):
    for file in (run / "checkpoints" / "6" / "state").glob("**/d/*"):
        file.unlink()
    assert _train(tiny_config, run, tmp_path) == 0
    out = capsys.readouterr().out
    assert "going back to the checkpoint before" in out
    assert "resuming at step 3" in out
    assert (run / "checkpoints" / "damaged-6").is_dir()
    assert (run / "checkpoints" / "6").is_dir()


def test_nothing_is_renamed_when_no_checkpoint_can_be_read(run, tiny_config, tmp_path, capsys):
    for file in (run / "checkpoints").glob("*/files/data/*"):
        file.write_bytes(b"x")
    assert _train(tiny_config, run, tmp_path) == 2
    assert "no checkpoint can be used" in capsys.readouterr().err
    assert sorted(entry.name for entry in (run / "checkpoints").iterdir()) == ["3", "6"]


def test_shorter_than_it_is(run, tiny_config, tmp_path, capsys):
    assert _train(tiny_config, run, tmp_path, training={"num_steps": 4}) == 2
    assert "num_steps=4 is below the 6 updates" in capsys.readouterr().err
