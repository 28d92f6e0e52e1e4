"""`denoise-jax import` and `export`, and transformers loading what comes out."""

import ast
import json
import shlex
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("transformers")

import torch
import transformers
from safetensors.torch import load_file

from denoise_jax.cli.main import main
from denoise_jax.config import Config
from denoise_jax.model.transformer import bind_params, init_params
from denoise_jax.runs.checkpoint import Checkpointer
from denoise_jax.runs.load_model import load_model
from denoise_jax.vocabulary.load import load_vocabulary

SETTINGS = {
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_bos_token_id": 0,
    "forced_eos_token_id": 2,
    "num_beams": 4,
    "num_return_sequences": 1,
    "length_penalty": 2.0,
    "early_stopping": True,
    "no_repeat_ngram_size": 3,
    "max_length": 31,
    "min_length": 6,
    "do_sample": False,
}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
TEXTS = ["The state of our union is strong.", "We will <mask> the work — together!", "x"]


def _load_whole(automatic, folder):
    """A model by its automatic class, with no weight missing, unexpected or of another shape."""
    model, info = automatic.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()


@pytest.fixture(scope="module")
def original(tmp_path_factory, random_model, save_folder):
    """(model of transformers, its folder)."""
    model = random_model(dropout=0.2, encoder_layerdrop=0.1)
    return model, save_folder(tmp_path_factory.mktemp("original") / "folder", model, SETTINGS)


@pytest.fixture(scope="module")
def imported(original, tmp_path_factory):
    run = tmp_path_factory.mktemp("imported") / "run"
    assert main(["import", str(original[1]), str(run)]) == 0
    return run


def test_an_imported_run_is_a_run(imported, original, vocab_size):
    model = load_model(imported)
    config = model.config
    assert (config.name, config.data.task, config.data.vocabulary) == (
        "run",
        None,
        str(imported / "vocabulary"),
    )
    assert (config.data.input_length, config.data.target_length, model.step) == (40, 40, 0)
    assert (config.model.dropout, config.model.encoder_layer_drop) == (0.2, 0.1)
    assert (config.generation.num_beams, config.generation.max_new_tokens) == (4, 30)
    assert (config.generation.forced_bos, config.generation.forced_eos) == ("<s>", "</s>")
    assert len(model.vocabulary) == vocab_size
    stored = Config.model_validate_json((imported / "config.json").read_bytes())
    assert stored == config
    assert (imported / "vocabulary" / "fingerprint").read_text() == model.vocabulary.fingerprint()
    assert load_model(imported / "checkpoints" / "0").config == config, "a checkpoint alone is enough"


def test_import_and_export_give_the_folder_back(imported, original, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", str(imported), str(out)]) == 0
    assert "BartForConditionalGeneration of step 0, 331 tokens" in capsys.readouterr().out
    before, after = (load_file(folder / "model.safetensors") for folder in (original[1], out))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        rows = slice(2 if "embed_positions" in name else 0, None)
        assert torch.equal(tensor[rows], after[name][rows]), name
    for name in TOKENIZER:
        assert (out / name).read_bytes() == (original[1] / name).read_bytes()
    assert json.loads((out / "generation_config.json").read_text()) == SETTINGS
    configs = [json.loads((folder / "config.json").read_text()) for folder in (original[1], out)]
    unread = ("transformers_version", "id2label", "label2id")  # of a model without classes
    wanted = {name: value for name, value in configs[0].items() if name not in unread}
    assert configs[1] == wanted


def test_transformers_loads_what_is_exported(imported, original, tmp_path, capfd):
    for options in ([], ["--max-shard-size", "0.00003"]):
        out = tmp_path / f"out{len(options)}"
        assert main(["export", str(imported), str(out), *options]) == 0
        model = _load_whole(transformers.AutoModelForSeq2SeqLM, out)
        assert "not initialized" not in capfd.readouterr().err
        tokenizer = transformers.AutoTokenizer.from_pretrained(out)
        ids = tokenizer(TEXTS, return_tensors="pt", padding=True)
        assert torch.equal(model(**ids).logits, original[0](**ids).logits)
    assert len(list(out.glob("model-*-of-*.safetensors"))) > 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_exported_in_half_precision(imported, original, tmp_path, dtype):
    assert main(["export", str(imported), str(tmp_path / "out"), "--dtype", dtype]) == 0
    model = _load_whole(transformers.AutoModelForSeq2SeqLM, tmp_path / "out")
    wanted = getattr(torch, dtype)
    assert model.dtype == wanted
    assert torch.equal(model.model.shared.weight, original[0].model.shared.weight.to(wanted))


@pytest.fixture(scope="module")
def make_run(tiny_config, vocabulary_folder):
    """make_run(folder, **fields of the model): a run of this project at step 5, of random parameters."""
    vocabulary = load_vocabulary(vocabulary_folder)

    def make(folder, **fields):
        model = tiny_config.model.model_copy(update={"init_std": 0.3, **fields})
        checkpoints = Checkpointer(folder / "checkpoints")
        checkpoints.save(
            5,
            {"params": init_params(model, jax.random.key(1))},
            config=tiny_config.model_copy(update={"model": model}),
            vocabulary=vocabulary.files(),
            data={},
        )
        checkpoints.close()
        return folder

    return make


@pytest.mark.parametrize(
    ("architecture", "fields"),
    [("MBart", {"norm_position": "pre"}), ("Bart", {"norm_position": "post", "tie_embeddings": False})],
)
def test_an_exported_run_of_ours(make_run, tmp_path, architecture, fields):
    """The same ids, logits and greedy outputs here and there."""
    folder = make_run(tmp_path / "run", **fields)
    assert main(["export", str(folder), str(tmp_path / "out")]) == 0
    theirs = _load_whole(transformers.AutoModelForSeq2SeqLM, tmp_path / "out")
    assert type(theirs).__name__ == f"{architecture}ForConditionalGeneration"
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    ours = load_model(folder)
    vocabulary = ours.vocabulary
    params = jax.device_get(ours.params)
    run = jax.jit(lambda params, batch: bind_params(ours.config.model, params)(batch))

    def our_logits(source, target):
        batch = {}
        for side, ids, length in (("encoder", source, 40), ("decoder", target, 13)):
            row = np.zeros((1, length), np.int32)
            row[0, : len(ids)] = ids
            positions = np.arange(length, dtype=np.int32)[None]
            batch |= {
                f"{side}_input_tokens": jnp.asarray(row),
                f"{side}_segment_ids": jnp.asarray((np.arange(length) < len(ids)).astype(np.int32)[None]),
                f"{side}_positions": jnp.asarray(positions),
            }
        return np.asarray(run(params, batch))[0, : len(target), : len(vocabulary)]

    for text in TEXTS:
        source = [*vocabulary.encode_masked(text), 1]
        encoded = tokenizer(text, return_tensors="pt")
        assert encoded["input_ids"][0].tolist() == source
        written = [vocabulary.start_id]
        while len(written) < 13 and written[-1] != 1:
            written.append(int(our_logits(source, written)[-1].argmax()))
        with torch.no_grad():
            logits = theirs(**encoded, decoder_input_ids=torch.tensor([written])).logits[0].numpy()
            output = theirs.generate(encoded["input_ids"], max_new_tokens=12, num_beams=1, do_sample=False)
        np.testing.assert_allclose(our_logits(source, written), logits, atol=1e-4, rtol=0)
        assert output[0].tolist() == written
        decoded = tokenizer.decode(written, skip_special_tokens=True)
        assert decoded.strip() == vocabulary.decode(written).strip()


def test_classifiers_there_and_back(random_model, save_folder, tmp_path, capsys):
    names = {0: "no", 1: "perhaps", 2: "yes", 3: "unsaid"}
    model = random_model(head="ForSequenceClassification", id2label=names)
    folder = save_folder(tmp_path / "in", model)
    assert main(["import", str(folder), str(tmp_path / "run")]) == 0
    assert "classes are numbers here: 0 no, 1 perhaps, 2 yes, 3 unsaid" in capsys.readouterr().err
    assert load_model(tmp_path / "run").config.model.num_classes == 4
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    again = _load_whole(transformers.AutoModelForSequenceClassification, tmp_path / "out")
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")(TEXTS[:1], return_tensors="pt")
    assert torch.equal(again(**ids).logits, model(**ids).logits)


def _without_tokenizer(folder, edit_json):
    (folder / "tokenizer.json").unlink()


def _cut(folder, edit_json):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])


BROKEN = {
    "another model": (
        lambda f, edit: edit(f / "config.json", model_type="t5"),
        "model_type='t5' is not",
    ),
    "no tokenizer": (_without_tokenizer, "tokenizer.json"),
    "cut short": (_cut, "model.safetensors is damaged or cut short"),
    "fewer rows": (
        lambda f, edit: edit(f / "config.json", vocab_size=300),
        "has 300 rows (vocab_size), the",
    ),
    "fewer positions": (
        lambda f, edit: edit(f / "config.json", max_position_embeddings=64),
        "embed_positions.weight of",
    ),
    "a token that is not there": (
        lambda f, edit: edit(f / "generation_config.json", forced_bos_token_id=4000),
        "generation_config.json: forced_bos_token_id=4000",
    ),
    "no configuration": (lambda f, edit: (f / "config.json").unlink(), "has no config.json"),
}


@pytest.mark.parametrize(("damage", "told"), BROKEN.values(), ids=BROKEN.keys())
def test_nothing_is_left_of_a_failed_import(original, tmp_path, capsys, edit_json, damage, told):
    folder = shutil.copytree(original[1], tmp_path / "in")
    damage(folder, edit_json)
    assert main(["import", str(folder), str(tmp_path / "new" / "run")]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_folders_that_are_taken(original, imported, tmp_path, capsys):
    (tmp_path / "taken").write_text("mine")
    for command, source in (("import", original[1]), ("export", imported)):
        assert main([command, str(source), str(tmp_path)]) == 2
        assert "exists and is not empty; choose another folder" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]
    assert main(["export", str(imported), str(tmp_path / "out"), "--max-shard-size", "0"]) == 2
    assert "--max-shard-size 0.0 must be above 0" in capsys.readouterr().err


def test_what_neither_architecture_has_is_not_exported(make_run, tmp_path, capsys):
    """Refused by its field before a folder is made."""
    run = make_run(tmp_path / "run", embedding_norm=False)
    assert main(["export", str(run), str(tmp_path / "out")]) == 2
    assert "model.embedding_norm=False cannot be exported" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_resized_vocabulary_by_the_flag(random_model, save_folder, vocab_size, tmp_path, capsys):
    """As the published BARTs for summaries: a table without the mask, which is the tokenizer's last token."""
    model = random_model(vocab_size=vocab_size - 1)
    folder = save_folder(tmp_path / "in", model, {"repetition_penalty": 1.2})
    assert main(["import", str(folder), str(tmp_path / "run")]) == 2
    assert "--resize-vocabulary" in capsys.readouterr().err
    assert main(["import", str(folder), str(tmp_path / "run"), "--resize-vocabulary"]) == 0
    assert "repetition_penalty=1.2 is not taken over" in capsys.readouterr().err
    loaded = load_model(tmp_path / "run")
    table = model.model.shared.weight.detach().numpy()
    found = np.asarray(loaded.params["embedding"]["tokens"])
    np.testing.assert_allclose(found[loaded.vocabulary.mask_id], table.mean(axis=0), atol=1e-6)


def test_the_line_that_converts_pickles_does(original, tmp_path, capsys):
    folder = shutil.copytree(original[1], tmp_path / "in")
    torch.save(original[0].state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert main(["import", str(folder), str(tmp_path / "run")]) == 2
    line = capsys.readouterr().err.strip().partition("convert it: ")[2]
    python, option, program = shlex.split(line)
    assert (python, option) == ("python", "-c")
    exec(compile(ast.parse(program), "line", "exec"), {})
    assert main(["import", f"{folder}-safetensors", str(tmp_path / "run")]) == 0
