"""An imported folder generates, token by token, what Transformers generates with the same settings."""

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch
import transformers

from denoise_jax.generation.prompts import generate_ids
from denoise_jax.interop.import_folder import import_folder
from denoise_jax.runs.load_model import load_model
from tests.interop.helpers import VOCAB_SIZE, random_model, save_folder

pytestmark = pytest.mark.slow  # PyTorch and JAX compute the same models twice

PROMPTS, PAD, END = 50, 1, 2
SETTINGS = {
    "num_beams": 4,
    "length_penalty": 2.0,
    "early_stopping": True,
    "no_repeat_ngram_size": 3,
    "min_length": 5,
    "max_length": 16,
    "forced_eos_token_id": END,
    "eos_token_id": END,
    "pad_token_id": PAD,
}
BART = {"decoder_start_token_id": END, "forced_bos_token_id": 0}
VARIANTS = {
    "bart": ("bart", {}, BART),
    "bart untied": ("bart", {"tie_word_embeddings": False}, BART),
    # As in translation: one language starts the decoder or is forced; 328 is en_XX, 329 ro_RO.
    "mbart": ("mbart", {"scale_embedding": True}, {"decoder_start_token_id": 328}),
    "mbart untied": (
        "mbart",
        {"tie_word_embeddings": False},
        {"decoder_start_token_id": END, "forced_bos_token_id": 329},
    ),
}


@pytest.fixture(scope="module")
def prompts():
    """Hugging Face ids of 50 prompts of 4 to 14 tokens that end in </s>."""
    random = np.random.default_rng(2)
    lengths = random.integers(3, 14, PROMPTS)
    return [[*random.integers(4, VOCAB_SIZE, length).tolist(), END] for length in lengths]


def _padded(prompts) -> torch.Tensor:
    ids = np.full((len(prompts), max(map(len, prompts))), PAD)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = prompt
    return torch.tensor(ids)


def _theirs(folder, prompts, **options) -> list[list[int]]:
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    ids = _padded(prompts)
    with torch.inference_mode():
        found = model.generate(ids, attention_mask=ids != PAD, **options)
    rows = [row[1:] for row in found.tolist()]  # without the start
    return [row[: row.index(END, 1) + 1] if END in row[1:] else row for row in rows]


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_greedy_and_beams_are_token_identical(variant, bpe_tokenizer, prompts, tmp_path):
    model_type, fields, tokens = variant
    model = random_model(model_type, **fields)
    with torch.no_grad():  # otherwise a random model repeats its last token and never ends
        model.model.decoder.embed_positions.weight.mul_(4)
        free = model.generate(_padded(prompts), max_length=16, do_sample=False, eos_token_id=None)
        model.lm_head.weight[END] = 1.1 * model.lm_head.weight[free[:, 6:].flatten().mode().values]
    folder = save_folder(tmp_path / "folder", model, bpe_tokenizer, {**SETTINGS, **tokens})
    import_folder(folder, tmp_path / "run")
    run = load_model(tmp_path / "run")
    own = np.argsort(run.vocabulary.hf_ids)
    asked = [own[prompt].tolist() for prompt in prompts]
    for beams in (4, 1):
        options = run.config.generation.model_copy(update={"num_beams": beams})
        outputs = [best.ids for best, *_ in generate_ids(run, asked, options, batch_size=PROMPTS)]
        written = [run.vocabulary.hf_ids[list(ids)].tolist() for ids in outputs]
        greedy = {} if beams > 1 else {"num_beams": 1, "early_stopping": None, "length_penalty": None}
        assert written == _theirs(folder, prompts, **greedy)
        assert len({tuple(ids) for ids in written}) > PROMPTS // 4, "outputs hardly depend on the prompt"
        assert len({len(ids) for ids in written}) > 1, "outputs of equal length test little"
