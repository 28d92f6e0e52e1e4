"""Fine-tuning runs warm-started from a run: text and classes are learnt, resumed and measured."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from denoise_jax.cli.main import main
from denoise_jax.config import Config
from denoise_jax.runs.checkpoint import Checkpointer
from denoise_jax.runs.load_model import load_model
from denoise_jax.training.writers import read_lines
from denoise_jax.vocabulary.load import load_vocabulary
from denoise_jax.vocabulary.training import train_sentencepiece
from tasks.finetune import CENTURY_NAMES

pytestmark = pytest.mark.slow

STEPS = 30


def _write(config: Config, file: Path, **sections) -> str:
    file.write_text(config.replace(**sections).model_dump_json())
    return str(file)


def _finetuning(tiny_config, folder: Path, source: Path, **sections) -> str:
    """A configuration that says nothing of the source's architecture or vocabulary."""
    model = {
        "vocab_size": None,
        "embed_dim": 768,
        "num_heads": 12,
        "ffn_dim": 3072,
        "max_positions": 96,
        "dropout": 0.1,
    }
    data = {"vocabulary": None, "input_length": 48, "target_length": 48, "chunk_length": None}
    training = {"num_steps": STEPS, "log_every": 5, "save_every": 20, "init_from": str(source)}
    return _write(
        tiny_config,
        folder / "finetuning.json",
        name="finetuning",
        model={**model, **sections.pop("model", {})},
        data={**data, **sections.pop("data", {})},
        training={**training, **sections.pop("training", {})},
        **sections,
    )


@pytest.fixture(scope="module")
def classifier(tiny_config, finished_run, tmp_path_factory) -> tuple[str, Path]:
    """(configuration, run) of a classification head, warm-started from a run that is deleted afterwards."""
    folder = tmp_path_factory.mktemp("classifier")
    lost = shutil.copytree(finished_run, folder / "lost")
    config = _finetuning(
        tiny_config,
        folder,
        lost,
        model={"num_classes": 4},
        data={"task": "quickstart_century_classes"},
        training={"evaluate_every": 15},
    )
    assert main(["train", config, "--workdir", str(folder / "run")]) == 0
    shutil.rmtree(lost)
    return config, folder / "run"


@pytest.fixture(scope="module")
def writer(tiny_config, finished_run, tmp_path_factory) -> Path:
    """A run that generates the names of centuries."""
    folder = tmp_path_factory.mktemp("writer")
    config = _finetuning(
        tiny_config, folder, finished_run, data={"task": "quickstart_century"}, generation={"num_beams": 2}
    )
    assert main(["train", config, "--workdir", str(folder / "run")]) == 0
    return folder / "run"


def _losses(run: Path) -> list[float]:
    return [line["train/loss"] for line in read_lines(run / "metrics.jsonl") if "train/loss" in line]


def test_classes_are_learnt_and_measured(classifier, tiny_config, capsys):
    _, run = classifier
    losses = _losses(run)
    assert losses[-1] < 0.85 * losses[0]
    resolved = Config.model_validate_json((run / "config.json").read_text())
    shape = {"num_classes": 4, "max_positions": 96, "dropout": 0.1}
    assert resolved.model == tiny_config.model.model_copy(update=shape)
    assert resolved.data.vocabulary is None
    assert any("validation/accuracy" in line for line in read_lines(run / "metrics.jsonl"))
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(run)]) == 0
    assert "most frequent class " in capsys.readouterr().out
    assert main(["evaluate", str(run), "--predict", "--json"]) == 0
    predicted = json.loads(capsys.readouterr().out)
    assert predicted["examples"] == measured["examples"] > 500
    assert predicted["accuracy"] == pytest.approx(measured["accuracy"])
    assert predicted["baseline_accuracy"] == pytest.approx(measured["baseline_accuracy"])
    lines = (run / "eval" / f"{STEPS}-predictions.jsonl").read_text().splitlines()
    assert len(lines) == measured["examples"]
    assert json.loads(lines[0])["target"] in range(4)


def test_a_run_resumes_without_its_warm_start_source(classifier, tmp_path, capsys):
    config, finished = classifier
    run = shutil.copytree(finished, tmp_path / "run")
    expected = load_model(run).params
    shutil.rmtree(run / "checkpoints" / str(STEPS))
    shutil.rmtree(run / "vocabulary")
    assert main(["train", config, "--workdir", str(run)]) == 0
    assert "resuming at step 20" in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, load_model(run).params, expected)


def test_text_is_learnt_and_measured_on_generated_text(writer, capsys):
    losses = _losses(writer)
    assert losses[-1] < 0.8 * losses[0]
    capsys.readouterr()
    assert main(["evaluate", str(writer), "--predict", "--max-examples", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["examples"], found["task"]) == (20, "quickstart_century")
    file = writer / "eval" / f"{STEPS}-first-20-predictions.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert found["accuracy"] == sum(line["prediction"] == line["target"] for line in lines) / 20
    assert {line["target"] for line in lines} <= set(CENTURY_NAMES)
    # Any run can be measured on any task, with its own vocabulary.
    arguments = ["--task", "quickstart_cloze_qa", "--predict", "--max-examples", "5", "--json"]
    assert main(["evaluate", str(writer), *arguments]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {
        *("step", "task", "split", "examples", "exact_match", "f1"),
    }
    assert main(["evaluate", str(writer), "--task", "quickstart", "--max-batches", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["visible"]["tokens"] > 0


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"max_positions": 256}}, "max_positions=256 is above the 128 learned positions"),
        ({"data": {"task": None}}, "data.task is not set; give the task to train on, --data.task NAME"),
        ({"model": {"num_classes": 4}}, "'tiny' are text, but model.num_classes=4"),
        ({"training": {"init_from": "nowhere"}}, "nowhere is neither a run nor a checkpoint"),
    ],
)
def test_what_cannot_start_is_refused_in_one_line(
    tiny_config, finished_run, tmp_path, capsys, sections, message
):
    config = _finetuning(tiny_config, tmp_path, finished_run, **sections)
    assert main(["train", config, "--workdir", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_another_vocabulary_is_refused(tiny_config, finished_run, speeches, tmp_path, capsys):
    train_sentencepiece(speeches[:1], tmp_path / "other", size=300)
    other = str(tmp_path / "other")
    config = _finetuning(tiny_config, tmp_path, finished_run, data={"vocabulary": other})
    assert main(["train", config, "--workdir", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert f"vocabulary {other} is not that of training.init_from={finished_run}" in err


def test_another_source_is_another_run(classifier, finished_run, capsys):
    config, run = classifier
    assert main(["train", config, "--workdir", str(run), "--training.init-from", str(finished_run)]) == 2
    assert "training.init_from was " in capsys.readouterr().err


def test_imported_weights_start_runs_but_are_not_resumed(finished_run, tiny_config, tmp_path, capsys):
    imported, model = tmp_path / "imported", load_model(finished_run)
    config = model.config.replace(data={"task": None}, name="imported")
    imported.mkdir()
    (imported / "config.json").write_text(config.model_dump_json())
    shutil.copytree(finished_run / "vocabulary", imported / "vocabulary")
    checkpoints = Checkpointer(imported / "checkpoints")
    files = load_vocabulary(imported / "vocabulary").files()
    checkpoints.save(0, {"params": model.params}, config=config, vocabulary=files, data={})
    checkpoints.close()
    for name in (str(imported / "config.json"), "quickstart"):
        assert main(["train", name, "--workdir", str(imported)]) == 2
        err = capsys.readouterr().err
        assert "holds imported weights, which cannot be resumed: train in another folder, with " in err
        assert f"--training.init-from {imported}" in err
    assert main(["evaluate", str(imported)]) == 2
    assert "imported weights have no task of their own; give --task NAME" in capsys.readouterr().err
    assert main(["evaluate", str(imported), "--task", "quickstart", "--max-batches", "1"]) == 0
    config = _finetuning(
        tiny_config, tmp_path, imported, data={"task": "quickstart"}, training={"num_steps": 3}
    )
    assert main(["train", config, "--workdir", str(tmp_path / "run")]) == 0
