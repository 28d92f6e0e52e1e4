"""Transformers loads what we export, and we import what Transformers saves."""

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

from denoise_jax.errors import CheckpointError
from denoise_jax.interop.export_folder import export_folder
from denoise_jax.interop.import_folder import import_folder
from denoise_jax.model.transformer import bind_params
from denoise_jax.runs.load_model import load_model
from tests.interop.helpers import SETTINGS, random_model, save_folder, save_run

pytestmark = pytest.mark.slow  # PyTorch and JAX compute the same models twice

TEXTS = ["The state of our union is strong.", "We will <mask> the work — together!", "x"]


def _load(automatic, folder):
    """Loads a model with an Auto class; no weight may be missing, unexpected or of another shape."""
    model, info = automatic.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()


@pytest.fixture(scope="module")
def original(tmp_path_factory, bpe_tokenizer):
    """(model of Transformers, its folder)."""
    model = random_model(dropout=0.2, encoder_layerdrop=0.1)
    folder = tmp_path_factory.mktemp("original") / "folder"
    return model, save_folder(folder, model, bpe_tokenizer, SETTINGS)


@pytest.fixture(scope="module")
def imported(original, tmp_path_factory):
    run = tmp_path_factory.mktemp("imported") / "run"
    import_folder(original[1], run)
    return run


def test_import_and_export_give_the_same_folder(imported, original, tmp_path):
    out = tmp_path / "out"
    export_folder(imported, out)
    before, after = (load_file(folder / "model.safetensors") for folder in (original[1], out))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        rows = slice(2 if "embed_positions" in name else 0, None)
        assert torch.equal(tensor[rows], after[name][rows]), name
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (out / name).read_bytes() == (original[1] / name).read_bytes()
    assert json.loads((out / "generation_config.json").read_text()) == SETTINGS
    configs = [json.loads((folder / "config.json").read_text()) for folder in (original[1], out)]
    unread = ("transformers_version", "id2label", "label2id")  # of a model without classes
    wanted = {name: value for name, value in configs[0].items() if name not in unread}
    assert configs[1] == wanted


def test_transformers_loads_what_is_exported(imported, original, tmp_path, capfd):
    for max_shard_size in (5.0, 0.00003):
        out = tmp_path / str(max_shard_size)
        export_folder(imported, out, max_shard_size=max_shard_size)
        model = _load(transformers.AutoModelForSeq2SeqLM, out)
        assert "not initialized" not in capfd.readouterr().err
        tokenizer = transformers.AutoTokenizer.from_pretrained(out)
        ids = tokenizer(TEXTS, return_tensors="pt", padding=True)
        assert torch.equal(model(**ids).logits, original[0](**ids).logits)
    assert len(list(out.glob("model-*-of-*.safetensors"))) > 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_transformers_loads_half_precision(imported, original, tmp_path, dtype):
    export_folder(imported, tmp_path / "out", dtype=dtype)
    model = _load(transformers.AutoModelForSeq2SeqLM, tmp_path / "out")
    wanted = getattr(torch, dtype)
    assert model.dtype == wanted
    assert torch.equal(model.model.shared.weight, original[0].model.shared.weight.to(wanted))


@pytest.mark.parametrize(
    ("architecture", "fields"),
    [("MBart", {"norm_position": "pre"}), ("Bart", {"norm_position": "post", "tie_embeddings": False})],
)
def test_an_exported_run_of_ours_computes_the_same(
    tiny_config, vocabulary_folder, tmp_path, architecture, fields
):
    """The same ids, logits and greedy outputs."""
    folder = save_run(tmp_path / "run", tiny_config, vocabulary_folder, **fields)
    export_folder(folder, tmp_path / "out")
    theirs = _load(transformers.AutoModelForSeq2SeqLM, tmp_path / "out")
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


def test_a_classifier_is_imported_and_exported(bpe_tokenizer, tmp_path):
    names = {0: "no", 1: "perhaps", 2: "yes", 3: "unsaid"}
    model = random_model(head="ForSequenceClassification", id2label=names)
    folder = save_folder(tmp_path / "in", model, bpe_tokenizer)
    (note,) = import_folder(folder, tmp_path / "run").notes
    assert "classes are numbered: 0 no, 1 perhaps, 2 yes, 3 unsaid" in note
    assert load_model(tmp_path / "run").config.model.num_classes == 4
    export_folder(tmp_path / "run", tmp_path / "out")
    again = _load(transformers.AutoModelForSequenceClassification, tmp_path / "out")
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")(TEXTS[:1], return_tensors="pt")
    assert torch.equal(again(**ids).logits, model(**ids).logits)


def test_the_suggested_command_converts_pickles(original, tmp_path):
    folder = shutil.copytree(original[1], tmp_path / "in")
    torch.save(original[0].state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError) as raised:
        import_folder(folder, tmp_path / "run")
    line = str(raised.value).partition("are installed: ")[2]
    python, option, program = shlex.split(line)
    assert (python, option) == ("python", "-c")
    exec(compile(ast.parse(program), "line", "exec"), {})
    import_folder(f"{folder}-safetensors", tmp_path / "run")
