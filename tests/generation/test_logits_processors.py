"""Logits processors against plain Python, on random histories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.generation.decoding import DecodingOptions
from denoise_jax.generation.logits_processors import process_logits
from tests.generation.helpers import plain_process

V, B, N, M = 6, 2, 3, 8
END = 1
CASES = {
    "none": {},
    "no token twice": {"no_repeat_ngram_size": 1},
    "bigrams": {"no_repeat_ngram_size": 2},
    "longer than the history": {"no_repeat_ngram_size": M + 2},
    "minimum length": {"min_new_tokens": 4},
    "forced tokens": {"forced_bos_id": 5, "forced_eos_id": END, "no_repeat_ngram_size": 2},
}


@pytest.mark.parametrize("fields", CASES.values(), ids=CASES)
def test_processed_log_probabilities_equal_plain_python(fields):
    options = DecodingOptions(M, 2, END, **fields)
    random = np.random.default_rng(0)
    history_BNT = random.integers(0, V, (B, N, M + 1)).astype(np.int32)
    logits_VBN = random.standard_normal((V, B, N)).astype(np.float32)
    normalizer_BN = jax.nn.logsumexp(jnp.asarray(logits_VBN), axis=0)
    for index in range(M):
        processed_VBN = process_logits(
            options, jnp.asarray(logits_VBN), normalizer_BN, jnp.asarray(history_BNT), jnp.int32(index)
        )
        got_VBN = np.asarray(processed_VBN - normalizer_BN[None])
        for b, n in np.ndindex(B, N):
            scores_V = np.asarray(logits_VBN[:, b, n] - normalizer_BN[b, n], np.float64)
            expected_V = plain_process(scores_V, history_BNT[b, n, : index + 1].tolist(), options)
            np.testing.assert_allclose(got_VBN[:, b, n], expected_V, atol=1e-5)
