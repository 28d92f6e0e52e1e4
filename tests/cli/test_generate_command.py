"""`denoise-jax generate`: prompts from the command line and from files, options, and what it refuses."""

import json

import jax
import pytest

from denoise_jax.cli.main import main
from denoise_jax.config import Config
from denoise_jax.model.transformer import init_params
from denoise_jax.runs.checkpoint import Checkpointer
from denoise_jax.vocabulary.load import load_vocabulary


@pytest.fixture(scope="module")
def run(tiny_config, vocabulary_folder, tmp_path_factory):
    """A run with random parameters, whose configuration asks for beam search."""
    vocabulary = load_vocabulary(vocabulary_folder)
    values = {**tiny_config.model_dump(), "generation": {"num_beams": 2, "max_new_tokens": 6}}
    config = Config.model_validate(values)
    params = init_params(config.model, jax.random.key(0))
    folder = tmp_path_factory.mktemp("generate") / "run"
    checkpoints = Checkpointer(folder / "checkpoints", config.training)
    files = vocabulary.files()
    checkpoints.save(1, {"params": params}, config=config, vocabulary=files, data={})
    checkpoints.close()
    return folder


def generate(run, capsys, *arguments):
    """What `denoise-jax generate ...` prints to stdout and to stderr."""
    code = main(["generate", str(run), *map(str, arguments)])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out, err


def test_flags_override_the_options_of_the_run(run, capsys):
    out, err = generate(run, capsys, "We <mask>.", "The <mask> of the state.", "--json")
    entries = json.loads(out)
    assert [entry["text"] for entry in entries] == ["We <mask>.", "The <mask> of the state."]
    assert {frozenset(entry) for entry in entries} == {frozenset({"text", "filled"})}
    assert "text 1: output truncated at max_new_tokens" in err
    flags = "--num-return-sequences", "2", "--forced-eos", "</s>", "--early-stopping", "True"
    out, err = generate(run, capsys, "We <mask>.", "--json", *flags)
    (entry,) = json.loads(out)
    first, second = entry["outputs"]
    assert entry["filled"] == first["text"]
    assert first["score"] >= second["score"]
    assert first["complete"] and second["complete"]
    assert err == ""


def test_a_file_of_prompts_gives_the_same_outputs_as_the_command_line(run, capsys, tmp_path):
    texts = [f"We must {'really ' * (number % 5)}<mask> – {number}." for number in range(7)]
    (tmp_path / "prompts.txt").write_text("\r\n".join(texts) + "\n", encoding="utf-8")
    lines = [json.dumps({"text": text, "id": 3}) for text in texts]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    out, _ = generate(run, capsys, *texts, "--json")
    expected = [(entry["text"], entry["filled"]) for entry in json.loads(out)]
    for name in ("prompts.txt", "prompts.jsonl"):
        output = tmp_path / "answers.jsonl"
        out, err = generate(run, capsys, "--file", tmp_path / name, "--output", output, "--batch-size", "3")
        assert out == ""
        assert f"wrote the outputs of 7 prompts to {output}" in err
        entries = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
        assert [(entry["text"], entry["outputs"][0]["text"]) for entry in entries] == expected
        assert sorted(file.name for file in tmp_path.iterdir()) == [
            "answers.jsonl", "prompts.jsonl", "prompts.txt"
        ]  # fmt: skip


def test_samples_depend_only_on_the_seed(run, capsys):
    flags = "--json", "--num-beams", "1", "--do-sample", "True", "--num-return-sequences", "3"

    def sampled(*seed):
        out, _ = generate(run, capsys, "We <mask>.", *flags, *seed)
        return [output["text"] for output in json.loads(out)[0]["outputs"]]

    first = sampled()
    assert len(set(first)) == 3
    assert sampled("--seed", "0") == first
    assert sampled("--seed", "1") != first


REFUSED = {
    "no mask": (["a <mask>", "no mask here"], "text 2 has no <mask>"),
    "nothing": ([], "either texts with <mask> or --file PROMPTS"),
    "both": (["a <mask>", "--file", "good.txt"], "either texts with <mask> or --file PROMPTS"),
    "empty line": (["--file", "empty.txt"], "empty.txt, line 2 is empty"),
    "empty file": (["--file", "nothing.txt"], "nothing.txt, line 1 is empty"),
    "other bytes": (["--file", "latin.txt"], "latin.txt, line 2 is not UTF-8: byte 4 is 0xe9"),
    "no JSON": (["--file", "bad.jsonl"], "bad.jsonl, line 2 is not JSON"),
    "JSON of another kind": (["--file", "other.jsonl"], 'line 1 is not a JSON object with a string "text"'),
    "no file": (["--file", "nowhere.txt"], "nowhere.txt: No such file"),
    "no folder": (
        ["a <mask>", "--output", "nowhere/out.jsonl"],
        "--output nowhere/out.jsonl: its folder does not exist",
    ),
    "batch": (["a <mask>", "--batch-size", "0"], "batch_size=0 must be at least 1"),
    "too long": (
        ["a <mask>", "--max-new-tokens", "5000"],
        "max_new_tokens=5000 is above model.max_positions=",
    ),
    "too short": (["a <mask>", "--min-new-tokens", "7"], "min_new_tokens=7 is above max_new_tokens=6"),
    "unknown token": (
        ["a <mask>", "--forced-bos", "en_YY"],
        "generation.forced_bos='en_YY' is not in the vocabulary; did you mean en_XX",
    ),
    "sampling with beams": (["a <mask>", "--do-sample", "True"], "do_sample needs num_beams=1, not 2"),
    "out of bounds": (
        ["a <mask>", "--top-p", "2"],
        "generation: top_p: input should be less than or equal to 1 (got 2.0)",
    ),
    "long text": (["a <mask> " * 40], "text 1 has"),
    "misspelt flag": (["a <mask>", "--num-beam", "2"], "--num-beams"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_mistakes_are_refused_in_one_line(run, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.txt").write_text("a <mask>\n")
    (tmp_path / "empty.txt").write_text("a <mask>\n\nb <mask>\n")
    (tmp_path / "nothing.txt").write_text("")
    (tmp_path / "latin.txt").write_bytes(b"a <mask>\ncaf\xe9 <mask>\n")
    (tmp_path / "bad.jsonl").write_text('{"text": "a <mask>"}\n{"text": \n')
    (tmp_path / "other.jsonl").write_text('{"prompt": "a <mask>"}\n')
    before = sorted(tmp_path.iterdir())
    assert main(["generate", str(run), *arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1, err
    assert out == ""
    assert sorted(tmp_path.iterdir()) == before


def test_a_text_without_a_mask_is_accepted_on_request(run, capsys):
    out, _ = generate(run, capsys, "no mask here", "--allow-no-mask")
    assert out.startswith("no mask here\n→ ")
