"""From a run to runs that begin with it: both kinds of targets learn, resume, and are measured."""

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
    values = config.model_dump()
    for section, fields in sections.items():
        values[section] = {**values[section], **fields} if isinstance(fields, dict) else fields
    file.write_text(Config.model_validate(values).model_dump_json())
    return str(file)


@pytest.fixture(scope="module")
def source(tiny_config, tmp_path_factory) -> Path:
    """A run of three steps on denoising."""
    folder = tmp_path_factory.mktemp("source")
    config = _write(tiny_config, folder / "source.json", training={"num_steps": 3})
    assert main(["train", config, "--workdir", str(folder / "run")]) == 0
    return folder / "run"


def _finetuning(tiny_config, folder: Path, source: Path, **sections) -> str:
    """A configuration that says nothing of the source's shape or vocabulary."""
    model = {"embed_dim": 768, "num_heads": 12, "ffn_dim": 3072, "max_positions": 96, "dropout": 0.1}
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
def classifier(tiny_config, source, tmp_path_factory) -> tuple[str, Path]:
    """(configuration, run) of a head, trained from a source that is gone afterwards."""
    folder = tmp_path_factory.mktemp("classifier")
    lost = shutil.copytree(source, folder / "lost")
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
def writer(tiny_config, source, tmp_path_factory) -> Path:
    """A run that writes the names of centuries."""
    folder = tmp_path_factory.mktemp("writer")
    config = _finetuning(
        tiny_config, folder, source, data={"task": "quickstart_century"}, generation={"num_beams": 2}
    )
    assert main(["train", config, "--workdir", str(folder / "run")]) == 0
    return folder / "run"


def _losses(run: Path) -> list[float]:
    return [line["train/loss"] for line in read_lines(run / "metrics.jsonl") if "train/loss" in line]


def test_a_head_learns_and_is_measured(classifier, tiny_config, capsys):
    _, run = classifier
    losses = _losses(run)
    assert losses[-1] < 0.85 * losses[0]
    adopted = Config.model_validate_json((run / "config.json").read_text())
    shape = {"num_classes": 4, "max_positions": 96, "dropout": 0.1}
    assert adopted.model == tiny_config.model.model_copy(update=shape)
    assert adopted.data.vocabulary is None
    assert any("validation/accuracy" in line for line in read_lines(run / "metrics.jsonl"))
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(run)]) == 0
    assert "(most frequent class " in capsys.readouterr().out
    assert main(["evaluate", str(run), "--predict", "--json"]) == 0
    predicted = json.loads(capsys.readouterr().out)
    assert predicted["examples"] == measured["examples"] > 500
    assert predicted["accuracy"] == pytest.approx(measured["accuracy"])
    assert predicted["baseline_accuracy"] == pytest.approx(measured["baseline_accuracy"])
    lines = (run / "eval" / f"{STEPS}-predictions.jsonl").read_text().splitlines()
    assert len(lines) == measured["examples"]
    assert json.loads(lines[0])["target"] in range(4)


def test_a_run_goes_on_without_what_it_began_with(classifier, tmp_path, capsys):
    config, finished = classifier
    run = shutil.copytree(finished, tmp_path / "run")
    expected = load_model(run).params
    shutil.rmtree(run / "checkpoints" / str(STEPS))
    shutil.rmtree(run / "vocabulary")
    assert main(["train", config, "--workdir", str(run)]) == 0
    assert "resuming at step 20" in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, load_model(run).params, expected)


def test_text_learns_and_is_measured_by_what_is_written(writer, capsys):
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
    # Any run, on any task, with its vocabulary.
    arguments = ["--task", "quickstart_cloze_qa", "--predict", "--max-examples", "5", "--json"]
    assert main(["evaluate", str(writer), *arguments]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {
        *("step", "task", "split", "examples", "exact_match", "f1"),
    }
    assert main(["evaluate", str(writer), "--task", "quickstart", "--max-batches", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["visible"]["tokens"] > 0


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"model": {"max_positions": 256}}, "max_positions=256 is above the 128 learned positions"),
        ({"data": {"task": None}}, "data.task names no task to train on; give --data.task NAME"),
        ({"model": {"num_classes": 4}}, "'quickstart' are text, but model.num_classes=4"),
        ({"training": {"init_from": "nowhere"}}, "nowhere is neither a run nor a checkpoint"),
    ],
)
def test_what_cannot_begin_is_refused_before_it_writes(tiny_config, source, tmp_path, capsys, sections, told):
    config = _finetuning(tiny_config, tmp_path, source, **sections)
    assert main(["train", config, "--workdir", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_another_vocabulary_is_refused(tiny_config, source, speeches, tmp_path, capsys):
    train_sentencepiece(speeches[:1], tmp_path / "other", size=300)
    other = str(tmp_path / "other")
    config = _finetuning(tiny_config, tmp_path, source, data={"vocabulary": other})
    assert main(["train", config, "--workdir", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert f"vocabulary {other} is not that of training.init_from={source}" in err


def test_another_beginning_is_another_run(classifier, source, capsys):
    config, run = classifier
    assert main(["train", config, "--workdir", str(run), "--training.init-from", str(source)]) == 2
    assert "training.init_from was " in capsys.readouterr().err


def test_imported_weights_are_begun_with_and_not_gone_on_with(source, tiny_config, tmp_path, capsys):
    imported, model = tmp_path / "imported", load_model(source)
    data = model.config.data.model_copy(update={"task": None})
    config = model.config.model_copy(update={"data": data, "name": "imported"})
    imported.mkdir()
    (imported / "config.json").write_text(config.model_dump_json())
    shutil.copytree(source / "vocabulary", imported / "vocabulary")
    checkpoints = Checkpointer(imported / "checkpoints")
    files = load_vocabulary(imported / "vocabulary").files()
    checkpoints.save(0, {"params": model.params}, config=config, vocabulary=files, data={})
    checkpoints.close()
    for name in (str(imported / "config.json"), "quickstart"):
        assert main(["train", name, "--workdir", str(imported)]) == 2
        err = capsys.readouterr().err
        assert "holds imported weights, which no run can go on with: train in another folder, with " in err
        assert f"--training.init-from {imported}" in err
    assert main(["evaluate", str(imported)]) == 2
    assert "which have no task; give --task NAME" in capsys.readouterr().err
    assert main(["evaluate", str(imported), "--task", "quickstart", "--max-batches", "1"]) == 0
    config = _finetuning(
        tiny_config, tmp_path, imported, data={"task": "quickstart"}, training={"num_steps": 3}
    )
    assert main(["train", config, "--workdir", str(tmp_path / "run")]) == 0
