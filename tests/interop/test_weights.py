"""Imported weights compute what transformers computes; exported, they are the tensors that they were."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("transformers")

import torch
from safetensors import safe_open

from denoise_jax.errors import CheckpointError
from denoise_jax.interop.model_config import read_json, read_model_config, table_rows
from denoise_jax.interop.safetensors_files import TensorFiles, write
from denoise_jax.interop.weights import compute_dtype, read_params, tensor_sizes, tensors
from denoise_jax.model.cross_entropy import cross_entropy
from denoise_jax.model.transformer import bind_params

VARIANTS = {
    "bart": {},
    "bart untied": {"tie_word_embeddings": False},
    "bart scaled, relu, deep decoder": {
        "scale_embedding": True,
        "activation_function": "relu",
        "decoder_layers": 3,
    },
    "mbart": {"model_type": "mbart", "scale_embedding": True},
    "mbart untied, tanh gelu": {
        "model_type": "mbart",
        "tie_word_embeddings": False,
        "activation_function": "gelu_new",
    },
    "mbart silu": {"model_type": "mbart", "activation_function": "silu", "encoder_attention_heads": 4}
    | {"decoder_attention_heads": 4},
}
QUICK = {"xla_backend_optimization_level": 0}  # compiles in half the time


@pytest.fixture(scope="module")
def load(hf_ids):
    """load(folder): (configuration, our parameters, the files)."""

    def read(folder, **options):
        files = TensorFiles(folder)
        values = read_json(folder / "config.json")
        config = read_model_config(values, compute_dtype(files))
        return config, read_params(files, config, table_rows(values), hf_ids, **options), files

    return read


@pytest.fixture(scope="module")
def examples(vocab_size):
    """Two examples of Hugging Face ids: (source, target), of other lengths, with no padding inside."""
    random = np.random.default_rng(0)
    lengths = [(11, 7), (6, 9)]
    return [tuple(random.integers(4, vocab_size, length) for length in pair) for pair in lengths]


def _their_logits(model, examples):
    """Logits [T, V] of each example, in the order of their ids, from one padded batch with a mask."""
    source, target = (np.full((len(examples), 12), 1) for _ in range(2))
    for row, example in enumerate(examples):
        source[row, : len(example[0])], target[row, : len(example[1])] = example
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor(source),
            attention_mask=torch.tensor(source != 1),
            decoder_input_ids=torch.tensor(target),
        ).logits.numpy()
    return [logits[row, : len(target)] for row, (_, target) in enumerate(examples)]


def _batch(hf_ids, rows, source_length, target_length):
    """Our batch of rows, each a list of (source, target) in their ids, packed behind each other."""
    ours = np.argsort(hf_ids)
    batch = {}
    for side, length, index in (("encoder", source_length, 0), ("decoder", target_length, 1)):
        arrays = {name: np.zeros((len(rows), length), np.int32) for name in ("input_tokens", "segment_ids")}
        arrays["positions"] = np.zeros_like(arrays["segment_ids"])
        for row, pieces in enumerate(rows):
            start = 0
            for segment, piece in enumerate(pieces, 1):
                place = row, slice(start, start + len(piece[index]))
                arrays["input_tokens"][place] = ours[piece[index]]
                arrays["segment_ids"][place] = segment
                arrays["positions"][place] = np.arange(len(piece[index]))
                start += len(piece[index])
        batch |= {f"{side}_{name}": jnp.asarray(array) for name, array in arrays.items()}
    return batch


def _our_output(config, vocab_size, params, batch):
    run = jax.jit(lambda params, batch: bind_params(config, params)(batch), compiler_options=QUICK)
    return np.asarray(run(params, batch), np.float32)


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS.keys())
def variant(request, tmp_path_factory, random_model, save_folder):
    """(their model, its folder)."""
    model = random_model(**request.param)
    return model, save_folder(tmp_path_factory.mktemp("variant"), model)


def test_logits_agree_padded_and_packed(variant, load, examples, hf_ids):
    model, folder = variant
    config, params, _ = load(folder)
    wanted = _their_logits(model, examples)
    assert all(np.abs(logits).max() > 1 for logits in wanted), "outputs too small to tell anything"
    # Both in one row, and each alone with padding behind it.
    batch = _batch(hf_ids, [examples, examples[:1], examples[1:]], 20, 20)
    found = _our_output(config, len(hf_ids), params, batch)[..., : len(hf_ids)]
    for row, start, logits in ((0, 0, wanted[0]), (0, 7, wanted[1]), (1, 0, wanted[0]), (2, 0, wanted[1])):
        ours = found[row, start : start + len(logits)]
        np.testing.assert_allclose(ours, logits[:, hf_ids], atol=1e-4, rtol=0)


def test_loss_agrees(variant, load, examples, hf_ids):
    model, folder = variant
    config, params, _ = load(folder)
    source, labels = examples[0]
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor(source[None]), labels=torch.tensor(labels[None])).loss.item()
    # The decoder of BART starts with </s>, that of mBART with the last label, which is the language.
    shifted = np.array([2 if config.norm_position == "post" else labels[-1], *labels[:-1]])
    batch = _batch(hf_ids, [[(source, shifted)]], len(source), len(labels))
    logits = jnp.asarray(_our_output(config, len(hf_ids), params, batch))
    targets = jnp.asarray(np.argsort(hf_ids)[labels][None], jnp.int32)
    losses, _ = cross_entropy(logits, targets)
    assert np.asarray(losses).mean() == pytest.approx(wanted, abs=1e-4)


def _file_tensors(folder):
    found = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            assert opened.metadata() == {"format": "pt"}
            found |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return found


def _export(folder, config, params, hf_ids, dtype="float32", limit=10**9):
    folder.mkdir()
    sizes = tensor_sizes(config, len(hf_ids), dtype)
    return write(folder, tensors(params, config, hf_ids, dtype), sizes, limit)


def _assert_same_tensors(first, second):
    """To the bit; but for the two rows of position tables that nothing reads, which become zeros."""
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        skipped = 2 if "embed_positions" in name else 0
        assert tensor.dtype == second[name].dtype
        assert torch.equal(tensor[skipped:], second[name][skipped:]), name


def _assert_same_params(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for one, two in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(one, two)


def test_there_and_back_is_exact(variant, load, hf_ids, tmp_path):
    _, folder = variant
    config, params, _ = load(folder)
    _export(tmp_path / "out", config, params, hf_ids)
    _assert_same_tensors(_file_tensors(folder), _file_tensors(tmp_path / "out"))
    (tmp_path / "out" / "config.json").write_bytes((folder / "config.json").read_bytes())
    _assert_same_params(load(tmp_path / "out")[1], params)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_read_exactly(dtype, random_model, save_folder, load, hf_ids, tmp_path):
    model = random_model().to(getattr(torch, dtype))
    config, params, _ = load(save_folder(tmp_path / "in", model))
    assert config.compute_dtype == ("bfloat16" if dtype == "bfloat16" else "float32")
    table = model.model.shared.weight.detach().float().numpy()
    np.testing.assert_array_equal(params["embedding"]["tokens"][: len(hf_ids)], table[hf_ids])
    _export(tmp_path / "out", config, params, hf_ids, dtype)
    _assert_same_tensors(_file_tensors(tmp_path / "in"), _file_tensors(tmp_path / "out"))


def test_shards_both_ways(random_model, save_folder, load, hf_ids, tmp_path):
    model = random_model(tie_word_embeddings=False)
    whole = save_folder(tmp_path / "whole", model)
    cut = save_folder(tmp_path / "cut", model, max_shard_size="30KB")
    assert len(list(cut.glob("*.safetensors"))) > 2
    config, params, _ = load(cut)
    _assert_same_params(params, load(whole)[1])
    shards = _export(tmp_path / "out", config, params, hf_ids, limit=30_000)
    assert len(shards) > 2
    _assert_same_tensors(_file_tensors(whole), _file_tensors(tmp_path / "out"))


def test_number_beyond_float16_is_refused(random_model, save_folder, load, hf_ids, tmp_path):
    config, params, _ = load(save_folder(tmp_path / "in", random_model()))
    params["decoder"]["layers"]["ffn"]["up"]["bias"][1, 3] = 1e5
    with pytest.raises(CheckpointError, match=r"decoder.layers.1.fc1.bias holds numbers beyond float16"):
        _export(tmp_path / "out", config, params, hf_ids, "float16")


def test_bare_encoder_decoder_has_no_prefix(random_model, save_folder, load, tmp_path):
    """As facebook/bart-base is published: BartModel, so no `model.`, no bias and no output."""
    model = random_model()
    _, wanted, _ = load(save_folder(tmp_path / "whole", model))
    bare = save_folder(tmp_path / "bare", model.model)
    assert "shared.weight" in _file_tensors(bare)
    _assert_same_params(load(bare)[1], wanted)


def test_classification_head(random_model, save_folder, load, hf_ids, vocab_size, tmp_path):
    for model_type in ("bart", "mbart"):
        model = random_model(model_type, "ForSequenceClassification", num_labels=4)
        folder = save_folder(tmp_path / model_type, model)
        config, params, _ = load(folder)
        assert config.num_classes == 4
        source = np.random.default_rng(1).integers(4, vocab_size, 9)
        source[-1] = 2  # </s>, at which their head reads
        with torch.no_grad():
            wanted = model(input_ids=torch.tensor(source[None])).logits[0].numpy()
        # BART shifts the source to make the decoder's tokens; mBART puts its last token, the language, first.
        shifted = np.array([2, *source[:-1]])
        batch = _batch(hf_ids, [[(source, shifted)]], 9, 9)
        found = _our_output(config, vocab_size, params, batch)[0, -1]
        np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)
        _export(tmp_path / f"{model_type}-out", config, params, hf_ids)
        _assert_same_tensors(_file_tensors(folder), _file_tensors(tmp_path / f"{model_type}-out"))
