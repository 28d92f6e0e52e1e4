"""`denoise-jax corrupt`: examples, presets, comparisons, statistics, files; and errors of one line."""

import json
import re
from xml.etree import ElementTree

import pytest

from denoise_jax.cli.main import main

TEXT = "Fellow citizens, I come before you. The union is strong! We shall build new roads. Let us go on."
TASKS = """
import pathlib, seqio, tensorflow as tf
from denoise_jax.data import preprocessors
texts = pathlib.Path({texts!r}).read_text().split("\\f")
def source(split, shuffle_files, seed=None):
    return tf.data.Dataset.from_tensor_slices({{"text": texts}})
for name, noise in (("shown", "bart_paper"), ("spans", "t5_span")):
    seqio.TaskRegistry.add(
        name, source=seqio.FunctionDataSource(source, splits=["train"]),
        preprocessors=preprocessors.denoising(name, noise),
        output_features=preprocessors.output_features({vocabulary!r}))
"""


MODULE = "tasks_of_test_corrupt"


@pytest.fixture(scope="module", autouse=True)
def task_module(vocabulary_folder, speeches, tmp_path_factory):
    """Makes MODULE importable, with tasks `shown` (bart_paper) and `spans` (t5_span) over the speeches."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "texts").write_text("\f".join(speech[:8000] for speech in speeches))
    source = TASKS.format(texts=str(folder / "texts"), vocabulary=str(vocabulary_folder))
    (folder / f"{MODULE}.py").write_text(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield


@pytest.fixture(autouse=True)
def width(monkeypatch):
    """A terminal of 100 columns."""
    monkeypatch.setenv("COLUMNS", "100")


def corrupt(capsys, *arguments) -> str:
    """What `denoise-jax corrupt ...` prints."""
    of_task = ["--task-modules", MODULE] if "--task" in arguments else []
    code = main(["corrupt", *map(str, arguments), *of_task])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def test_a_text_is_shown_in_words(capsys):
    out = corrupt(capsys, TEXT)
    assert "bart_paper  19 tokens → " in out
    assert "corrupted  " in out
    assert "target" not in out
    assert corrupt(capsys, TEXT) == out
    assert "target     <extra_id_0>" in corrupt(capsys, TEXT, "--corruption", "t5_span")


def test_a_text_is_printed_in_pieces_as_json(capsys, vocabulary_folder):
    (example,) = json.loads(corrupt(capsys, TEXT, "--vocabulary", vocabulary_folder, "--json", "--seed", "3"))
    assert len(example["text"]) > len(TEXT.split())
    assert "".join(example["text"]).startswith("▁F")
    assert example["text_noise"].count(2) == -(-3 * len(example["text"]) // 10)


def test_examples_of_a_task_are_shown(capsys):
    shown = json.loads(corrupt(capsys, "--task", "shown", "--json", "--examples", "2", "--length", "40"))
    assert len(shown) == 2
    assert all(len(example["text"]) <= 39 for example in shown)
    assert all(example["targets"] == [*example["text"], "</s>"] for example in shown)
    out = corrupt(capsys, "--task", "spans", "--examples", "1")
    assert "target     <extra_id_0>" in out


def test_presets_are_listed(capsys):
    from denoise_jax.corruption.presets import PRESETS

    documentation = json.loads(corrupt(capsys, "--list", "--json"))
    assert documentation == {name: preset.documentation for name, preset in PRESETS.items()}
    out = corrupt(capsys, "--list")
    assert all(name in out for name in PRESETS)


@pytest.fixture
def few_presets(monkeypatch):
    """Makes --compare apply four presets only."""
    from denoise_jax.inspection import comparison

    names = ("none", "bart_paper", "t5_span", "token_deletion")
    monkeypatch.setattr(comparison, "PRESETS", {name: comparison.PRESETS[name] for name in names})
    return names


def test_presets_are_compared_on_a_text(capsys, few_presets):
    found = json.loads(corrupt(capsys, TEXT, "--compare", "--json"))
    assert tuple(found["presets"]) == few_presets
    assert found["skipped"] == {}
    out = corrupt(capsys, TEXT, "--compare")
    assert "token_deletion  19 tokens → 16, 3 hidden (3 deleted), 0 moved" in out
    assert all(f"{name}  19 tokens → " in out for name in few_presets)


def test_presets_that_the_vocabulary_cannot_serve_are_named(capsys, speeches, tmp_path, few_presets):
    from denoise_jax.vocabulary.training import train_sentencepiece

    train_sentencepiece(speeches[:1], tmp_path / "none", size=300, sentinels=0)
    out = corrupt(
        capsys, TEXT, "--compare", "--vocabulary", tmp_path / "none", "--html", tmp_path / "page.html"
    )
    (line,) = [line for line in out.splitlines() if line.startswith("t5_span")]
    assert line.startswith("t5_span is not shown: a text of max_tokens=")
    assert "t5_span is not shown: " in (tmp_path / "page.html").read_text()
    assert "bart_paper  " in out


def test_presets_are_compared_on_a_task(capsys, few_presets):
    found = json.loads(corrupt(capsys, "--task", "shown", "--compare", "--json", "--examples", "2"))
    shown = json.loads(corrupt(capsys, "--task", "shown", "--json", "--examples", "2"))
    for name in few_presets:
        for compared, example in zip(found["presets"][name], shown, strict=True):
            # A text that starts within a word is tokenized differently on its own.
            assert "".join(compared["text"]).replace("▁", "") == "".join(example["text"]).replace("▁", "")


def test_the_noise_of_a_task_is_measured(capsys):
    arguments = "--task", "shown", "--stats", "--length", "64", "--input-length", "46", "--examples", "150"
    found = json.loads(corrupt(capsys, *arguments, "--json"))
    assert (found["task"], found["examples"]) == ("shown", 150)
    assert (found["length"], found["input_length"]) == (64, 46)
    assert 0.3 <= found["hidden"] < 0.33
    assert found["masked"] == found["hidden"]
    assert found["deleted"] == found["replaced"] == 0
    assert 2.5 < found["mean_span"] < 3.3
    assert 0 < found["truncated"] < 1
    assert 0 < found["lost"] < found["truncated"]
    out = corrupt(capsys, *arguments)
    assert f"{found['hidden']:.2%}" in out
    assert f"{found['mean_span']:.3f} on average" in out
    assert "█" in out


def test_pictures_and_pages_are_complete_files(capsys, tmp_path):
    folder = tmp_path / "made" / "on demand"
    out = corrupt(capsys, TEXT, "--svg", folder / "noise.svg", "--html", folder / "noise.html", "--json")
    assert json.loads(out)
    assert sorted(file.name for file in folder.iterdir()) == ["noise.html", "noise.svg"]
    svg, html = ((folder / f"noise.{kind}").read_text(encoding="utf-8") for kind in ("svg", "html"))
    assert svg.startswith("<svg") and "@font-face" not in svg and "citizens" in svg
    assert html.startswith("<!doctype html>") and html.rstrip().endswith("</html>") and "citizens" in html


CONTROLS = "Red \x1b[31malert\x1b[0m, \x07bell \x7f \x9b1m \u202eback \u2066again."
SHOWN = r"Red \u001b[31malert\u001b[0m, \u0007bell \u007f \u009b1m \u202eback \u2066again."


def test_no_control_character_reaches_a_terminal_a_page_or_a_picture(capsys, tmp_path):
    """A terminal would interpret an escape, and XML forbids it; JSON keeps the text unchanged, escaped."""
    files = tmp_path / "a.html", tmp_path / "a.svg"
    out = corrupt(capsys, CONTROLS, "--corruption", "none", "--html", files[0], "--svg", files[1])
    page, picture = (file.read_text(encoding="utf-8") for file in files)
    assert f"text       {SHOWN}\n" in out
    for shown in (out, page, picture):
        assert r"\u001b[31malert\u001b[0m," in shown
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    ElementTree.fromstring(picture)
    plain = corrupt(capsys, CONTROLS, "--corruption", "none", "--json")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", plain)
    assert "".join(json.loads(plain)[0]["text"]) == "".join(f"▁{word}" for word in CONTROLS.split())


def test_a_text_of_one_token_has_no_span_to_hide(capsys, vocabulary_folder):
    for arguments in (["Hello"], ["a", "--vocabulary", vocabulary_folder]):
        out = corrupt(capsys, *arguments, "--corruption", "t5_span")
        assert "t5_span  1 tokens → 1, 0 hidden, 0 moved" in out
        assert f"corrupted  {arguments[0]}\ntext       {arguments[0]}\n" in out
    assert json.loads(corrupt(capsys, "Hello", "--compare", "--json"))["skipped"] == {}


ERRORS = {
    "unknown preset": (["text", "--corruption", "bart_papr"], "did you mean bart_paper"),
    "stats of a text": (["text", "--stats"], "--stats measures the noise of a task; give --task NAME"),
    "compare with a preset": (["text", "--compare", "--corruption", "none"], "leave out --corruption"),
    "two views": (["text", "--compare", "--stats"], "--compare and --stats cannot be combined"),
    "page of statistics": (["--task", "t", "--stats", "--html", "a.html"], "--stats has no text for --html"),
    "page that is a folder": (["text", "--html", "folder"], "--html folder is a folder; name a file"),
    "page under a file": (["text", "--html", "file/a.html"], "--html file/a.html cannot be written"),
    "picture under a file": (["text", "--svg", "file/b/a.svg"], "--svg file/b/a.svg cannot be written"),
    "no examples": (["--task", "quickstart", "--examples", "0"], "--examples 0 must be at least 1"),
    "short": (["--task", "quickstart", "--length", "4"], "--length 4 must be at least 8"),
    "row of examples": (["--task", "quickstart", "--input-length", "64"], "--input-length is for --stats"),
    "unknown task": (["--task", "quickstrat", "--stats"], "did you mean quickstart"),
    "unknown split": (["--task", "shown", "--stats", "--split", "dev"], "has no split 'dev'; it has train"),
}


@pytest.mark.parametrize(("arguments", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_errors_are_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    modules = ["--task-modules", MODULE, "tasks"] if "--task" in arguments else []
    assert main(["corrupt", *arguments, *modules]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.startswith("denoise-jax: ")
    assert err.count("\n") == 1, err
    assert out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


EMPTY_TASKS = """
import seqio, tensorflow as tf
from denoise_jax.data import preprocessors
for name, texts in (("blank", ["", "  "]), ("absent", None)):
    def source(split, shuffle_files, seed=None, texts=texts):
        return tf.data.Dataset.from_tensor_slices({{"text": texts}})
    in_memory = seqio.FunctionDataSource(source, splits=["train"])
    seqio.TaskRegistry.add(
        name, source=in_memory if texts else seqio.TextLineDataSource({{"train": "nowhere-*.txt"}}),
        preprocessors=preprocessors.denoising(name, "bart_paper"),
        output_features=preprocessors.output_features({vocabulary!r}))
"""


@pytest.mark.parametrize("view", [[], ["--stats"], ["--compare"]])
@pytest.mark.parametrize(
    ("task", "message"),
    [("blank", "split 'train' of task 'blank' has no text"), ("absent", "its source finds no files; check")],
)
def test_a_task_without_text_is_refused(
    task, message, view, vocabulary_folder, tmp_path, monkeypatch, capsys
):
    source = EMPTY_TASKS.format(vocabulary=str(vocabulary_folder))
    (tmp_path / "empty_tasks_of_corrupt.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["corrupt", "--task", task, "--task-modules", "empty_tasks_of_corrupt", *view]) == 2
    out, err = capsys.readouterr()
    assert message in err and "sotu" not in err
    assert (out, err.count("\n")) == ("", 1)
