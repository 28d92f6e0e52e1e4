"""The decoding step: its logits in every architecture, and that a search runs no more steps than it needs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.generation import decoding
from denoise_jax.generation.decoding import DecodingOptions
from denoise_jax.generation.search import generate_tokens
from denoise_jax.model import transformer
from tests.generation.helpers import LENGTH, SOURCES, START, lively_params
from tests.model.helpers import VARIANTS, VOCAB_SIZE, jit, pack, random_params, run_model, tiny_config


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_decoding_step_by_step_gives_the_logits_of_the_full_pass(variant):
    config = tiny_config(**variant)
    params, batch = random_params(config), pack([[(5, 10)], [(12, 10)], []])
    expected_BTV = run_model(config, params, batch)
    model = transformer.bind_params(config, params)
    tokens_BT = batch["decoder_input_tokens"]
    length = tokens_BT.shape[1]

    @jit
    def stepwise():
        step, cache = decoding.start(model, batch["encoder_input_tokens"], length, 1, shared=False)

        def body(cache, index_and_tokens):
            index, tokens_B = index_and_tokens
            mask_11T = (jnp.arange(length) <= index)[None, None]
            logits_VB1, cache = step(tokens_B[:, None], index, mask_11T, cache)
            return cache, logits_VB1[..., 0].T

        return jax.lax.scan(body, cache, (jnp.arange(length), tokens_BT.T))[1]

    got_BTV = stepwise().swapaxes(0, 1)[:2, :, :VOCAB_SIZE]
    np.testing.assert_allclose(got_BTV, expected_BTV[:2, :, :VOCAB_SIZE], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fields", [{}, {"num_beams": 2}], ids=["greedy", "beams"])
def test_a_search_stops_when_every_row_has_ended(monkeypatch, fields):
    config, steps, end = tiny_config(), [], 1
    start = decoding.start

    def counting_start(*arguments, **options):
        step, cache = start(*arguments, **options)

        def counting_step(tokens_BN, index, *rest):
            jax.debug.callback(lambda i: steps.append(int(i)), index)
            return step(tokens_BN, index, *rest)

        return counting_step, cache

    monkeypatch.setattr(decoding, "start", counting_start)
    # </s> is forced as the first token, with a score of 0 that no beam can reach.
    options = DecodingOptions(LENGTH, START, end, forced_bos_id=end, **fields)
    fresh = jit(generate_tokens.__wrapped__, static_argnames=("config", "options"))
    got = fresh(config, lively_params(config), jnp.asarray(SOURCES), options)
    jax.block_until_ready(got)
    jax.effects_barrier()
    np.testing.assert_array_equal(got.lengths_BR[:, 0], SOURCES.any(axis=1))
    # The second beam, which also holds </s> but with a score of -1e9, has to end too.
    assert sorted(steps) == list(range(1 if options.num_beams == 1 else max(steps) + 1))
    assert max(steps) < LENGTH - 1
