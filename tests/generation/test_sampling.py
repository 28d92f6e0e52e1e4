"""Draws: their distribution, what top-k and top-p exclude, and what they may depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.generation.logits_processors import Search
from denoise_jax.generation.search import generate_tokens
from denoise_jax.generation.top_k import draw, likeliest, nucleus
from denoise_jax.model.transformer import EncoderDecoder, bind_params

START, END, LENGTH = 2, 1, 4
SAMPLES = 600


@pytest.fixture(scope="module")
def sources(vocab_size):
    return np.random.default_rng(6).integers(3, vocab_size, (2, 5)).astype(np.int32)


@pytest.fixture(scope="module")
def samples(jit, tiny, make_params, vocab_size, sources):
    """samples(**options): tokens [2, SAMPLES, LENGTH] of the two sources."""
    quick = jit(generate_tokens.__wrapped__, static_argnames=("config", "vocab_size", "options"))
    params = make_params(tiny())

    def run(**fields):
        options = Search(LENGTH, START, END, do_sample=True, num_return_sequences=SAMPLES, **fields)
        keys_B = jax.random.split(jax.random.key(4), 2)
        return quick(tiny(), vocab_size, params, jnp.asarray(sources), options, keys_B)

    return run


@pytest.fixture(scope="module")
def first_logits(tiny, make_params, vocab_size, sources):
    """Logits of the first token, [2, real V], by a full forward pass."""
    model: EncoderDecoder = bind_params(tiny(), make_params(tiny()))
    ones_BS, ones_B1 = jnp.ones(sources.shape, jnp.int32), jnp.ones((2, 1), jnp.int32)
    batch = {
        "encoder_input_tokens": jnp.asarray(sources),
        "encoder_segment_ids": ones_BS,
        "encoder_positions": jnp.arange(sources.shape[1])[None] * ones_BS,
        "decoder_input_tokens": START * ones_B1,
        "decoder_segment_ids": ones_B1,
        "decoder_positions": 0 * ones_B1,
    }
    return np.asarray(model(batch)[:, 0, :vocab_size], np.float64)


def probabilities(logits_V, temperature=1.0, top_k=0, top_p=1.0):
    """By sorting: temperature, then top-k, then top-p."""
    order = np.argsort(-logits_V)
    kept = order[: top_k or len(order)]
    weights = np.exp((logits_V[kept] - logits_V.max()) / temperature)
    weights /= weights.sum()
    before = np.cumsum(weights) - weights
    weights = np.where(before < top_p, weights, 0)
    result = np.zeros_like(logits_V)
    result[kept] = weights / weights.sum()
    return result


CASES = {
    "plain": {},
    "temperature": {"temperature": 2.5},
    "top-k": {"temperature": 1.5, "top_k": 5},
    "top-p": {"top_p": 0.6, "temperature": 1.3},
    "both": {"top_k": 8, "top_p": 0.7, "temperature": 2.0},
}


@pytest.mark.parametrize("fields", CASES.values(), ids=CASES.keys())
def test_the_first_token_is_distributed_as_it_should_be(samples, first_logits, fields):
    """A chi-squared test at the upper 1e-6 for each of two sources: 1e-5 false alarms over all cases."""
    first_BN = np.asarray(samples(**fields).tokens_BRM[:, :, 0])
    for row, logits_V in zip(first_BN, first_logits, strict=True):
        expected_V = probabilities(logits_V, **fields) * SAMPLES
        counts_V = np.bincount(row, minlength=len(logits_V))
        assert not counts_V[expected_V == 0].any(), "a token that is excluded"
        common = expected_V >= 5
        rare = expected_V[~common].sum(), counts_V[~common].sum()
        expected, counts = np.append(expected_V[common], rare[0]), np.append(counts_V[common], rare[1])
        statistic = ((counts - expected) ** 2 / np.maximum(expected, 1e-9))[expected > 1].sum()
        freedom = max((expected > 1).sum() - 1, 1)
        # Wilson & Hilferty: the cube root of chi-squared over freedom is nearly normal; 4.75 sigma is 1e-6.
        spread = 2 / (9 * freedom)
        assert np.cbrt(statistic / freedom) < 1 - spread + 4.75 * spread**0.5


def test_samples_are_apart_and_rows_too(samples):
    got = samples(temperature=3.0)
    first, second = np.asarray(got.tokens_BRM)
    assert len(np.unique(first, axis=0)) > SAMPLES // 3
    assert (first == second).all(axis=1).mean() < 0.2
    after = got.tokens_BRM[..., 1:][got.tokens_BRM[..., :-1] == END]
    assert not after.any(), "nothing behind the end"
    assert (got.lengths_BR < LENGTH).any()


def test_scores_are_the_models_own(samples, first_logits):
    """Those of one token, before the temperature."""
    got = samples(temperature=3.0)
    alone = np.asarray(got.lengths_BR) == 1
    assert alone.any()
    for row, logits_V in enumerate(first_logits):
        expected = logits_V[END] - np.log(np.exp(logits_V).sum())
        np.testing.assert_allclose(got.scores_BR[row][alone[row]], expected, rtol=1e-4)


def test_likeliest_is_a_stable_sort():
    """With equals, as bfloat16 models have many, and vocabularies that no group divides."""
    random = np.random.default_rng(0)
    for columns, k in ((640, 8), (37, 5), (200, 200), (64, 1)):
        values_VBN = random.integers(0, 30, (columns, 2, 3)).astype(np.float32)
        values_VBN[random.random(values_VBN.shape) < 0.2] = -np.inf
        values_BNk, tokens_BNk = likeliest(jnp.asarray(values_VBN), k)
        order = np.moveaxis(np.argsort(-values_VBN, axis=0, kind="stable")[:k], 0, -1)
        np.testing.assert_array_equal(tokens_BNk, order)
        expected = np.take_along_axis(np.moveaxis(values_VBN, 0, -1), order, axis=-1)
        np.testing.assert_array_equal(values_BNk, expected)


def test_nucleus_by_halving_is_the_one_by_sorting():
    random = np.random.default_rng(1)
    weights_VBN = np.exp(4 * random.standard_normal((500, 2, 3))).astype(np.float32)
    weights_VBN /= weights_VBN.max(axis=0)
    weights_VBN[:100] = 0
    for top_p in (1e-6, 0.3, 0.9, 0.999):
        kept_VBN = np.asarray(nucleus(jnp.asarray(weights_VBN), top_p))
        ordered = -np.sort(-weights_VBN.astype(np.float64), axis=0)
        count_BN = (np.cumsum(ordered, axis=0) - ordered < top_p * ordered.sum(axis=0)).sum(axis=0)
        np.testing.assert_array_equal(kept_VBN.sum(axis=0), count_BN)
        assert (weights_VBN[kept_VBN].min() > 0) and kept_VBN.any(axis=0).all()
        assert np.where(kept_VBN, weights_VBN, 2).min(axis=0).min() > 0


def test_draws_at_the_edges_have_weight():
    weights_VBN = np.zeros((300, 1, 4), np.float32)
    weights_VBN[[7, 130, 131, 299]] = 1e-3
    uniform_BN = jnp.asarray([[0.0, 0.25, 0.75, np.nextafter(np.float32(1), np.float32(0))]], jnp.float32)
    assert draw(jnp.asarray(weights_VBN), uniform_BN).tolist() == [[7, 130, 299, 299]]
