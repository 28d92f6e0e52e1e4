"""Greedy decoding against plain Python; sampling: distribution, independence and scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from denoise_jax.generation.decoding import DecodingOptions
from tests.generation.helpers import check_search, quick_generate
from tests.model.helpers import MODERN, VOCAB_SIZE, random_params, run_model, tiny_config

START, END, LENGTH = 2, 1, 4
SAMPLES = 600
SOURCES = np.random.default_rng(6).integers(3, VOCAB_SIZE, (2, 5)).astype(np.int32)

PRE_NORM = {"norm_position": "pre", "tie_embeddings": False, "scan_layers": True, "remat": "full"}
GREEDY = {
    "post-norm": ({}, {}),
    "pre-norm": (PRE_NORM, {}),
    "modern": (MODERN, {"no_repeat_ngram_size": 2}),
    "scaled": (
        {"scale_embedding": True, "embedding_norm": False},
        {"no_repeat_ngram_size": 2, "min_new_tokens": 3},
    ),
}


SLOW = ("pre-norm", "scaled")  # their decoding steps are tested in test_decoding.py


@pytest.mark.parametrize(
    ("model", "fields"),
    [pytest.param(*v, id=k, marks=[pytest.mark.slow] * (k in SLOW)) for k, v in GREEDY.items()],
)
def test_greedy_decoding_equals_a_plain_search(model, fields):
    check_search(tiny_config(**model), **fields)


def samples(**fields):
    """SAMPLES outputs for each of the two sources."""
    options = DecodingOptions(LENGTH, START, END, do_sample=True, num_return_sequences=SAMPLES, **fields)
    keys_B = jax.random.split(jax.random.key(4), 2)
    config = tiny_config()
    return quick_generate(config, random_params(config), jnp.asarray(SOURCES), options, keys_B)


@functools.cache
def first_logits() -> np.ndarray:
    """Logits of the first token, float64 [2, VOCAB_SIZE], by a full forward pass."""
    config = tiny_config()
    ones_BS, ones_B1 = jnp.ones(SOURCES.shape, jnp.int32), jnp.ones((2, 1), jnp.int32)
    batch = {
        "encoder_input_tokens": jnp.asarray(SOURCES),
        "encoder_segment_ids": ones_BS,
        "encoder_positions": jnp.arange(SOURCES.shape[1])[None] * ones_BS,
        "decoder_input_tokens": START * ones_B1,
        "decoder_segment_ids": ones_B1,
        "decoder_positions": 0 * ones_B1,
    }
    logits_B1V = run_model(config, random_params(config), batch)
    return np.asarray(logits_B1V[:, 0, :VOCAB_SIZE], np.float64)


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


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(v, id=k, marks=[pytest.mark.slow] * (k in ("temperature", "top-k")))
        for k, v in CASES.items()
    ],
)
def test_the_first_token_has_the_right_distribution(fields):
    """A chi-squared test at 1e-6 for each of two sources: 1e-5 false alarms over all cases."""
    first_BN = np.asarray(samples(**fields).tokens_BRM[:, :, 0])
    for tokens_N, logits_V in zip(first_BN, first_logits(), strict=True):
        expected_V = probabilities(logits_V, **fields) * SAMPLES
        counts_V = np.bincount(tokens_N, minlength=len(logits_V))
        assert not counts_V[expected_V == 0].any(), "an excluded token"
        common_V = expected_V >= 5
        expected = np.append(expected_V[common_V], expected_V[~common_V].sum())
        counts = np.append(counts_V[common_V], counts_V[~common_V].sum())
        tested = expected > 1
        counts, expected = counts[tested], expected[tested]
        # The rest, if too rare to be tested, is excluded from both sums.
        assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-6


def test_samples_differ_within_and_between_prompts():
    got = samples(temperature=3.0)
    first, second = np.asarray(got.tokens_BRM)
    assert len(np.unique(first, axis=0)) > SAMPLES // 3
    assert (first == second).all(axis=1).mean() < 0.2
    after_end = got.tokens_BRM[..., 1:][got.tokens_BRM[..., :-1] == END]
    assert not after_end.any()
    assert (got.lengths_BR < LENGTH).any()


def test_scores_are_log_probabilities_before_the_temperature():
    got = samples(temperature=3.0)
    ended_BR = np.asarray(got.lengths_BR) == 1
    assert ended_BR.any()
    for row, logits_V in enumerate(first_logits()):
        expected = logits_V[END] - np.log(np.exp(logits_V).sum())
        np.testing.assert_allclose(got.scores_BR[row][ended_BR[row]], expected, rtol=1e-4)
