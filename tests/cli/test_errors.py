"""A user's mistake prints one clear line on stderr, exits with code 2 and leaves no files."""

import json

import pytest

from denoise_jax.cli.main import main

CASES = {
    "no such command": (["trian"], "unknown command 'trian'; did you mean train?"),
    "no configuration": (["train", "--workdir", "run"], "train: give the name of a configuration first"),
    "unknown configuration": (["train", "quickstrat", "--workdir", "run"], "did you mean quickstart?"),
    "unknown module": (["config", "no_such.module"], "configuration 'no_such.module'"),
    "missing file": (["config", "nowhere/config.json"], "no configuration file nowhere/config.json"),
    "no workdir": (["train", "quickstart"], "Missing from denoise-jax train: --workdir"),
    "misspelt field": (
        ["config", "quickstart", "--model.embed-dimm", "8"],
        "config: unknown argument --model.embed-dimm; did you mean --model.embed-dim or",
    ),
    "misspelt flag": (["export", "a", "b", "--dtipe=float16"], "--dtipe=float16; did you mean --dtype"),
    "flag like no other": (["config", "quickstart", "--xyzzy"], "unknown argument --xyzzy; see --help"),
    "positional as a flag": (["export", "a", "b", "--folder", "c"], "unknown argument --folder; see --help"),
    "superfluous word": (["config", "quickstart", "now"], "config: unknown argument now; see --help"),
    "missing folder": (["import", "folder"], "Missing from denoise-jax import: RUN"),
    "flag without a value": (["config", "quickstart", "--model.dropout"], "'--model.dropout'"),
    "bound broken": (
        ["config", "quickstart", "--model.dropout", "1.5"],
        "model.dropout: input should be less than 1 (got 1.5)",
    ),
    "not a number": (
        ["config", "quickstart", "--model.num-heads", "many"],
        "Error parsing --model.num-heads: invalid literal for int() with base 10: 'many'",
    ),
    "not a choice": (
        ["config", "quickstart", "--optimizer.name", "sgd"],
        "invalid choice 'sgd' for argument '--optimizer.name'. Expected one of ('adamw', 'adafactor')",
    ),
    "sections disagree": (
        ["config", "quickstart", "--model.max-positions", "64"],
        "max_positions=64 is below the longest row",
    ),
    "heads": (["config", "quickstart", "--model.num-heads", "5"], "num_heads=5 does not divide embed_dim="),
    "missing vocabulary": (
        ["train", "quickstart", "--workdir", "run"],
        "denoise-jax vocab --output vocabularies/quickstart",
    ),
    "vocab of nothing": (["vocab", "--output", "v"], "either --task NAME or text files"),
    "vocab of a missing file": (["vocab", "--output", "v", "nowhere.txt"], "cannot read nowhere.txt"),
    "vocab of an unknown task": (
        ["vocab", "--output", "v", "--task", "quickstrat"],
        "did you mean quickstart or",
    ),
    "corrupt nothing": (["corrupt"], "either a text or --task NAME"),
    "unknown corruption": (["corrupt", "A text.", "--corruption", "bart_papr"], "did you mean bart_paper or"),
    "blank text": (["corrupt", "  "], "no text to corrupt"),
    "ideographic space": (["corrupt", "\u3000"], "no text to corrupt"),
    "zero-width text": (["corrupt", "\u200b \ufeff"], "no text to corrupt"),
    "text that is not UTF-8": (
        ["corrupt", "caf\udce9"],  # Latin-1 in sys.argv
        "corrupt: TEXT is not UTF-8: character 4 is the byte 0xe9; convert it first",
    ),
    "evaluate no run": (["evaluate", "run"], "run is neither a run nor a checkpoint"),
    "generate without a run": (["generate", "run", "a <mask>"], "run is neither a run nor a checkpoint"),
    "path that is not a configuration": (["config", "./quickstart"], "configuration './quickstart'"),
    "infinite value": (["config", "quickstart", "--optimizer.eps", "inf"], "optimizer.eps: input should be"),
    "rate above the peak": (
        ["config", "quickstart", "--optimizer.final-learning-rate", "0.5"],
        "is above learning_rate",
    ),
    "no batches": (
        ["evaluate", "run", "--max-batches", "0"],
        "--max-batches 0 must be at least 1",
    ),
    "vocab size": (["vocab", "--output", "v", "--size", "-3", "x.txt"], "size=-3 leaves no room"),
    "vocab coverage": (["vocab", "--output", "v", "--character-coverage", "0.1", "x.txt"], "0.98 and 1"),
    "seed": (["corrupt", "A text.", "--seed", "99999999999999999999"], "--seed"),
    "task with its own noise": (
        ["corrupt", "--task", "quickstart", "--corruption", "none"],
        "a task has its own",
    ),
    "prompt that is not UTF-8": (["generate", "run", "a <mask>", "caf\udce9"], "text 2 is not UTF-8"),
    "generate nothing": (["generate", "run"], "give either texts with <mask> or --file PROMPTS"),
}


@pytest.mark.parametrize(("arguments", "message"), CASES.values(), ids=CASES.keys())
def test_one_line_and_exit_code_two(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.startswith("denoise-jax: ")
    assert err.count("\n") == 1, err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def _write_config(tiny_config, folder, **sections):
    values = tiny_config.model_dump()
    for section, fields in sections.items():
        values[section] = {**values[section], **fields}
    file = folder / "tiny.json"
    file.write_text(json.dumps(values))
    return str(file)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"data": {"task": "quickstrat"}},
            "no task or mixture is called 'quickstrat'; did you mean quickstart",
        ),
        ({"data": {"task_modules": ["no_tasks"]}}, "data.task_modules: cannot import 'no_tasks'"),
        ({"parallel": {"fsdp": 3}}, "fsdp=3"),
        (
            {"evaluation": {"validation_split": "dev"}, "training": {"evaluate_every": 3}},
            "has no split 'dev'",
        ),
    ],
)
def test_training_refuses_before_it_writes(tiny_config, tmp_path, capsys, sections, message):
    file = _write_config(tiny_config, tmp_path, **sections)
    assert main(["train", file, "--workdir", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_workdir_of_another_run_is_refused(tiny_config, tmp_path, capsys):
    file = _write_config(tiny_config, tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(tiny_config.model_copy(update={"name": "other"}).model_dump_json())
    assert main(["train", file, "--workdir", str(run)]) == 2
    assert "holds a run of 'other', not of 'quickstart'" in capsys.readouterr().err


def test_an_empty_corpus_is_refused(tiny_config, tmp_path, capsys, monkeypatch):
    (tmp_path / "empty_tasks.py").write_text(
        "import seqio, tensorflow as tf\n"
        "from denoise_jax.data import preprocessors\n"
        "source = seqio.FileDataSource(tf.data.TextLineDataset, {'train': []})\n"
        "seqio.TaskRegistry.add('empty', source=source,\n"
        "  preprocessors=preprocessors.denoising('empty', 'none'),\n"
        "  output_features=preprocessors.output_features('nowhere'))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    file = _write_config(tiny_config, tmp_path, data={"task": "empty", "task_modules": ["empty_tasks"]})
    assert main(["train", file, "--workdir", str(tmp_path / "run")]) == 2
    assert "corpus of task 'empty', split 'train', is empty" in capsys.readouterr().err
    assert (
        main(["vocab", "--task", "empty", "--task-modules", "empty_tasks", "--output", str(tmp_path / "v")])
        == 2
    )
    assert "is empty" in capsys.readouterr().err
