"""Imported weights compute what Transformers computes; exported weights are the original tensors."""

from pathlib import Path

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
from tests.interop.helpers import HF_IDS, VOCAB_SIZE, random_model, save_folder

pytestmark = pytest.mark.slow  # PyTorch and JAX compute the same models twice

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


def load(folder: Path, **options):
    """(configuration, our parameters, the files)."""
    files = TensorFiles(folder)
    values = read_json(folder / "config.json")
    config = read_model_config(values, compute_dtype(files)).replace(vocab_size=VOCAB_SIZE)
    return config, read_params(files, config, table_rows(values), HF_IDS, **options), files


@pytest.fixture(scope="module")
def examples():
    """Two examples of Hugging Face ids, (source, target), with different lengths."""
    random = np.random.default_rng(0)
    lengths = [(11, 7), (6, 9)]
    return [tuple(random.integers(4, VOCAB_SIZE, length) for length in pair) for pair in lengths]


def _their_logits(model, examples):
    """Their logits [T, V] of each example, from one padded batch with a mask."""
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


def _batch(rows, source_length, target_length):
    """Our batch; each row is a list of examples (source, target) in their ids, packed one after the other."""
    ours = np.argsort(HF_IDS)
    batch = {}
    for side, length, index in (("encoder", source_length, 0), ("decoder", target_length, 1)):
        arrays = {name: np.zeros((len(rows), length), np.int32) for name in ("input_tokens", "segment_ids")}
        arrays["positions"] = np.zeros_like(arrays["segment_ids"])
        for row, packed in enumerate(rows):
            start = 0
            for segment, example in enumerate(packed, 1):
                place = row, slice(start, start + len(example[index]))
                arrays["input_tokens"][place] = ours[example[index]]
                arrays["segment_ids"][place] = segment
                arrays["positions"][place] = np.arange(len(example[index]))
                start += len(example[index])
        batch |= {f"{side}_{name}": jnp.asarray(array) for name, array in arrays.items()}
    return batch


def _our_output(config, params, batch):
    run = jax.jit(lambda params, batch: bind_params(config, params)(batch), compiler_options=QUICK)
    return np.asarray(run(params, batch), np.float32)


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS.keys())
def variant(bpe_tokenizer, request, tmp_path_factory):
    """(model of Transformers, its folder)."""
    model = random_model(**request.param)
    return model, save_folder(tmp_path_factory.mktemp("variant"), model, bpe_tokenizer)


def test_logits_agree_padded_and_packed(variant, examples):
    model, folder = variant
    config, params, _ = load(folder)
    wanted = _their_logits(model, examples)
    assert all(np.abs(logits).max() > 1 for logits in wanted), "outputs too small to compare"
    # Both in one row, and each alone, followed by padding.
    batch = _batch([examples, examples[:1], examples[1:]], 20, 20)
    found = _our_output(config, params, batch)[..., :VOCAB_SIZE]
    for row, start, logits in ((0, 0, wanted[0]), (0, 7, wanted[1]), (1, 0, wanted[0]), (2, 0, wanted[1])):
        ours = found[row, start : start + len(logits)]
        np.testing.assert_allclose(ours, logits[:, HF_IDS], atol=1e-4, rtol=0)


def test_loss_agrees(variant, examples):
    model, folder = variant
    config, params, _ = load(folder)
    source, labels = examples[0]
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor(source[None]), labels=torch.tensor(labels[None])).loss.item()
    # The decoder of BART starts with </s>, that of mBART with the last label, which is the language.
    shifted = np.array([2 if config.norm_position == "post" else labels[-1], *labels[:-1]])
    batch = _batch([[(source, shifted)]], len(source), len(labels))
    logits = jnp.asarray(_our_output(config, params, batch))
    targets = jnp.asarray(np.argsort(HF_IDS)[labels][None], jnp.int32)
    losses, _ = cross_entropy(logits, targets)
    assert np.asarray(losses).mean() == pytest.approx(wanted, abs=1e-4)


def _file_tensors(folder):
    found = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            assert opened.metadata() == {"format": "pt"}
            found |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return found


def _export(folder, config, params, dtype="float32", limit=10**9):
    folder.mkdir()
    sizes = tensor_sizes(config, VOCAB_SIZE, dtype)
    return write(folder, tensors(params, config, HF_IDS, dtype), sizes, limit)


def _assert_same_tensors(first, second):
    """Bitwise, except for the two rows of the position embeddings that nothing reads, which become zeros."""
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        skipped = 2 if "embed_positions" in name else 0
        assert tensor.dtype == second[name].dtype
        assert torch.equal(tensor[skipped:], second[name][skipped:]), name


def _assert_same_params(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for one, two in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(one, two)


def test_import_and_export_are_exact(variant, tmp_path):
    _, folder = variant
    config, params, _ = load(folder)
    _export(tmp_path / "out", config, params)
    _assert_same_tensors(_file_tensors(folder), _file_tensors(tmp_path / "out"))
    (tmp_path / "out" / "config.json").write_bytes((folder / "config.json").read_bytes())
    _assert_same_params(load(tmp_path / "out")[1], params)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_read_exactly(bpe_tokenizer, dtype, tmp_path):
    model = random_model().to(getattr(torch, dtype))
    config, params, _ = load(save_folder(tmp_path / "in", model, bpe_tokenizer))
    assert config.compute_dtype == ("bfloat16" if dtype == "bfloat16" else "float32")
    table = model.model.shared.weight.detach().float().numpy()
    np.testing.assert_array_equal(params["embedding"]["tokens"][:VOCAB_SIZE], table[HF_IDS])
    _export(tmp_path / "out", config, params, dtype)
    _assert_same_tensors(_file_tensors(tmp_path / "in"), _file_tensors(tmp_path / "out"))


def test_shards_are_read_and_written(bpe_tokenizer, tmp_path):
    model = random_model(tie_word_embeddings=False)
    whole = save_folder(tmp_path / "whole", model, bpe_tokenizer)
    cut = save_folder(tmp_path / "cut", model, bpe_tokenizer, max_shard_size="30KB")
    assert len(list(cut.glob("*.safetensors"))) > 2
    config, params, _ = load(cut)
    _assert_same_params(params, load(whole)[1])
    shards = _export(tmp_path / "out", config, params, limit=30_000)
    assert len(shards) > 2
    _assert_same_tensors(_file_tensors(whole), _file_tensors(tmp_path / "out"))


def test_values_too_large_for_float16_are_refused(bpe_tokenizer, tmp_path):
    config, params, _ = load(save_folder(tmp_path / "in", random_model(), bpe_tokenizer))
    params["decoder"]["layers"]["ffn"]["up"]["bias"][1, 3] = 1e5
    with pytest.raises(CheckpointError, match=r"decoder.layers.1.fc1.bias has values too large for float16"):
        _export(tmp_path / "out", config, params, "float16")


def test_names_without_the_prefix_are_read(bpe_tokenizer, tmp_path):
    """A BartModel, such as facebook/bart-base, has no `model.` prefix, no bias and no output."""
    model = random_model()
    _, wanted, _ = load(save_folder(tmp_path / "whole", model, bpe_tokenizer))
    bare = save_folder(tmp_path / "bare", model.model, bpe_tokenizer)
    assert "shared.weight" in _file_tensors(bare)
    _assert_same_params(load(bare)[1], wanted)


def test_a_classification_head_computes_the_same(bpe_tokenizer, tmp_path):
    for model_type in ("bart", "mbart"):
        model = random_model(model_type, "ForSequenceClassification", num_labels=4)
        folder = save_folder(tmp_path / model_type, model, bpe_tokenizer)
        config, params, _ = load(folder)
        assert config.num_classes == 4
        source = np.random.default_rng(1).integers(4, VOCAB_SIZE, 9)
        source[-1] = 2  # </s>, where their head reads
        with torch.no_grad():
            wanted = model(input_ids=torch.tensor(source[None])).logits[0].numpy()
        # BART shifts the source to get the decoder tokens; mBART moves the language from end to front.
        shifted = np.array([2, *source[:-1]])
        batch = _batch([[(source, shifted)]], 9, 9)
        found = _our_output(config, params, batch)[0, -1]
        np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)
        _export(tmp_path / f"{model_type}-out", config, params)
        _assert_same_tensors(_file_tensors(folder), _file_tensors(tmp_path / f"{model_type}-out"))
