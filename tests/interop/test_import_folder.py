"""`import_folder`: the run it writes, what it reports, and what it refuses without leaving files."""

import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from denoise_jax.cli.main import main
from denoise_jax.config import Config
from denoise_jax.errors import ConfigError, UserError
from denoise_jax.interop.import_folder import import_folder
from denoise_jax.runs.load_model import load_model
from tests.interop.helpers import HF_IDS, VOCAB_SIZE, edit_json, write_folder


@pytest.fixture(scope="module")
def run(hf_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported") / "run"
    import_folder(hf_folder, folder)
    return folder


def test_an_imported_run_is_a_run(run):
    model = load_model(run)
    config = model.config
    vocabulary = str(run / "vocabulary")
    assert (config.name, config.data.task, config.data.vocabulary) == ("run", None, vocabulary)
    assert (config.data.input_length, config.data.target_length, model.step) == (40, 40, 0)
    assert (config.model.dropout, config.model.vocab_size) == (0.2, VOCAB_SIZE)
    assert (config.generation.num_beams, config.generation.max_new_tokens) == (4, 30)
    assert (config.generation.forced_bos, config.generation.forced_eos) == ("<s>", "</s>")
    assert len(model.vocabulary) == VOCAB_SIZE
    assert Config.model_validate_json((run / "config.json").read_bytes()) == config
    assert (run / "vocabulary" / "fingerprint").read_text() == model.vocabulary.fingerprint()
    assert load_model(run / "checkpoints" / "0").config == config, "a checkpoint alone is enough"


def test_rows_of_the_embedding_are_in_the_order_of_our_ids(run, hf_folder):
    table = load_file(hf_folder / "model.safetensors")["model.shared.weight"]
    found = np.asarray(load_model(run).params["embedding"]["tokens"])
    np.testing.assert_array_equal(found[:VOCAB_SIZE], table[HF_IDS])
    assert not found[VOCAB_SIZE:].any()


def test_the_summary_and_the_progress(hf_folder, tmp_path):
    calls = []
    summary = import_folder(hf_folder, tmp_path / "run", progress=lambda *call: calls.append(call))
    total = len(load_file(hf_folder / "model.safetensors"))
    assert calls == [(done, total) for done in range(1, total + 1)]
    params = load_model(tmp_path / "run").params
    assert summary.num_parameters == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert (summary.run, summary.model_type, summary.notes) == (tmp_path / "run", "bart", ())


def test_the_command_prints_a_line_and_a_note_for_each_unsupported_setting(hf_folder, tmp_path, capsys):
    folder = shutil.copytree(hf_folder, tmp_path / "in")
    edit_json(folder / "generation_config.json", repetition_penalty=1.2)
    assert main(["import", str(folder), str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("denoise-jax: generation_config.json: repetition_penalty=1.2 is not imported: ")
    assert err.count("\n") == 1
    assert "331 tokens, 40 positions, computes in float32 → " in out and out.count("\n") == 1


def test_names_of_classes_are_reported(bpe_tokenizer, tmp_path):
    folder = write_folder(tmp_path / "in", bpe_tokenizer, num_classes=3)
    edit_json(folder / "config.json", id2label={"0": "no", "1": "perhaps", "2": "yes"})
    summary = import_folder(folder, tmp_path / "run")
    assert summary.notes == (
        "config.json: id2label is not imported; classes are numbered: 0 no, 1 perhaps, 2 yes",
    )
    assert load_model(tmp_path / "run").config.model.num_classes == 3


def test_a_token_without_a_row_gets_the_mean_of_all_rows(hf_folder, tmp_path, capsys):
    """As in published BARTs for summaries, whose embedding has no row for the mask, the last token."""
    folder = shutil.copytree(hf_folder, tmp_path / "in")
    values = load_file(folder / "model.safetensors")
    table = values["model.shared.weight"] = values["model.shared.weight"][:-1]
    save_file(values, folder / "model.safetensors")
    edit_json(folder / "config.json", vocab_size=VOCAB_SIZE - 1)
    assert main(["import", str(folder), str(tmp_path / "run")]) == 2
    assert "--resize-vocabulary" in capsys.readouterr().err
    import_folder(folder, tmp_path / "run", resize_vocabulary=True)
    loaded = load_model(tmp_path / "run")
    found = np.asarray(loaded.params["embedding"]["tokens"])
    np.testing.assert_allclose(found[loaded.vocabulary.mask_id], table.mean(axis=0), atol=1e-6)


def _truncate(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])


BROKEN = {
    "another model": (lambda f: edit_json(f / "config.json", model_type="t5"), "model_type='t5' is not"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json"),
    "truncated": (_truncate, "model.safetensors is damaged or truncated"),
    "fewer rows": (lambda f: edit_json(f / "config.json", vocab_size=300), "has 300 rows (vocab_size), but"),
    "fewer positions": (
        lambda f: edit_json(f / "config.json", max_position_embeddings=64),
        "embed_positions.weight of",
    ),
    "missing token": (
        lambda f: edit_json(f / "generation_config.json", forced_bos_token_id=4000),
        "generation_config.json: forced_bos_token_id=4000",
    ),
    "no configuration": (lambda f: (f / "config.json").unlink(), "has no config.json"),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_failed_import_leaves_no_files(hf_folder, tmp_path, damage, message):
    folder = shutil.copytree(hf_folder, tmp_path / "in")
    damage(folder)
    with pytest.raises(UserError) as raised:
        import_folder(folder, tmp_path / "new" / "run")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_existing_files_are_not_overwritten(hf_folder, tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(UserError, match="exists and is not empty; choose another folder"):
        import_folder(hf_folder, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_a_run_is_imported_into_a_folder_whose_name_is_a_pattern(hf_folder, tmp_path):
    run = import_folder(hf_folder, tmp_path / "out[1]").run
    assert load_model(run).step == 0
    with pytest.raises(ConfigError, match="has a backslash"):
        import_folder(hf_folder, tmp_path / "out\\1")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out[1]"]
