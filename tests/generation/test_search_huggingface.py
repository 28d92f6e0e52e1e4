"""The same tokens and scores as Hugging Face transformers with the same random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from denoise_jax.config import ModelConfig  # noqa: E402
from denoise_jax.generation.decoding import DecodingOptions  # noqa: E402
from denoise_jax.generation.search import generate_tokens  # noqa: E402
from denoise_jax.interop.weights import tensors  # noqa: E402
from denoise_jax.model import transformer  # noqa: E402

pytestmark = pytest.mark.slow  # PyTorch and JAX compute the same models twice

VOCAB, LENGTH, PROMPTS = 61, 14, 50
PAD, END, START, BOS = 0, 1, 3, 7
CONFIG = ModelConfig(
    vocab_size=VOCAB,
    embed_dim=32,
    num_heads=4,
    ffn_dim=48,
    num_encoder_layers=2,
    num_decoder_layers=2,
    max_positions=40,
    vocab_multiple=16,
    dropout=0.0,
    compute_dtype="float32",
)


@pytest.fixture(scope="module")
def params():
    """Random parameters with which outputs end early or late and do not repeat one token."""
    random = np.random.default_rng(3)

    def draw(path, shape):
        spread = {"positions": 0.6, "tokens": 0.25}.get(path[-1].key, 0.25)
        return jnp.asarray(
            spread * random.standard_normal(shape.shape) + (path[-1].key == "scale"), "float32"
        )

    shapes = jax.eval_shape(lambda: transformer.init_params(CONFIG, jax.random.key(0)))
    params = jax.tree_util.tree_map_with_path(draw, shapes)
    # Makes </s> likelier, for outputs of all lengths.
    params["embedding"]["tokens"] = params["embedding"]["tokens"].at[END].multiply(1.6)
    return params


@pytest.fixture(scope="module")
def theirs(params):
    model = transformers.BartForConditionalGeneration(
        transformers.BartConfig(
            vocab_size=VOCAB,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            max_position_embeddings=40,
            pad_token_id=PAD,
            eos_token_id=END,
            bos_token_id=BOS,
            decoder_start_token_id=START,
            forced_eos_token_id=None,
            dropout=0.0,
        )
    )
    named = tensors(jax.device_get(params), CONFIG, np.arange(VOCAB))
    weights = {name: torch.tensor(array) for name, array in named}
    assert not model.load_state_dict(
        weights, strict=False
    ).unexpected_keys  # copies of tied weights are missing
    return model.eval()


@pytest.fixture(scope="module")
def prompts():
    random = np.random.default_rng(11)
    tokens_BS = random.integers(4, VOCAB, (PROMPTS, 12)).astype(np.int32)
    for row, length in zip(tokens_BS, random.integers(3, 13, PROMPTS), strict=True):
        row[length - 1] = END
        row[length:] = PAD
    return tokens_BS


OPTIONS = {
    "greedy": {},
    "greedy, processed": {"min_new_tokens": 4, "no_repeat_ngram_size": 2, "forced_bos_id": BOS},
    "beams": {"num_beams": 4, "num_return_sequences": 4},
    "beams, early": {"num_beams": 4, "num_return_sequences": 2, "early_stopping": True},
    "beams, never": {"num_beams": 4, "early_stopping": "never", "length_penalty": 0.5},
    "beams, short": {"num_beams": 3, "length_penalty": -1.0, "early_stopping": "never"},
    "beams, as BART": {
        "num_beams": 4,
        "num_return_sequences": 4,
        "early_stopping": True,
        "no_repeat_ngram_size": 3,
        "min_new_tokens": 5,
        "length_penalty": 2.0,
        "forced_bos_id": BOS,
        "forced_eos_id": END,
    },
    "beams, no token twice": {"num_beams": 2, "no_repeat_ngram_size": 1},
}


@pytest.mark.parametrize("fields", OPTIONS.values(), ids=OPTIONS.keys())
def test_same_tokens_and_scores(params, theirs, prompts, fields):
    ours = generate_tokens(
        CONFIG, params, jnp.asarray(prompts), DecodingOptions(LENGTH, START, END, **fields)
    )
    named = {name.replace("_id", "_token_id"): value for name, value in fields.items()}
    with torch.inference_mode():
        expected = theirs.generate(
            torch.tensor(prompts).long(),
            attention_mask=torch.tensor(prompts != PAD).long(),
            max_new_tokens=LENGTH,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
            **{"num_beams": 1, **named},
        )
    count = fields.get("num_return_sequences", 1)
    rows = expected.sequences.numpy()[:, 1:].reshape(PROMPTS, count, -1)
    rows = np.pad(rows, ((0, 0), (0, 0), (0, LENGTH - rows.shape[2])))
    lengths_BR = np.where((rows == END).any(2), (rows == END).argmax(2) + 1, LENGTH)
    rows = np.where(np.arange(LENGTH) < lengths_BR[..., None], rows, 0)  # transformers pads with </s>
    np.testing.assert_array_equal(ours.tokens_BRM, rows)
    np.testing.assert_array_equal(ours.lengths_BR, lengths_BR)
    if fields.get("num_beams", 1) > 1:
        np.testing.assert_allclose(
            ours.scores_BR.ravel(), expected.sequences_scores.numpy(), rtol=1e-4, atol=1e-4
        )
    assert len(np.unique(lengths_BR)) > 1 or "forced_eos_id" in fields, "outputs of equal length test little"
    assert len(np.unique(rows[:, 0], axis=0)) > PROMPTS // 4, "outputs hardly depend on the prompt"
