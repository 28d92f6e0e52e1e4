"""Cached generation against full forward passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.model import decoding, transformer

START, END = 2, 1
MAX_LENGTH = 8


@pytest.fixture(scope="module")
def sources(vocab_size):
    tokens_BS = np.random.default_rng(5).integers(3, vocab_size, (6, 9)).astype(np.int32)
    tokens_BS[1, 4:] = 0
    tokens_BS[2] = 0
    return jnp.asarray(tokens_BS)


def lengths(output_BT, end_id):
    """Tokens up to the first end_id, with it."""
    return [row.index(end_id) + 1 if end_id in row else MAX_LENGTH for row in output_BT.tolist()]


def naive(jit, config, vocab_size, params, tokens_BS, end_id):
    """The same search by a full forward pass for each token."""
    model = transformer.module(config, vocab_size, params)

    @jit
    def next_tokens(decoder_tokens_BT):
        sides = tokens_BS, decoder_tokens_BT
        positions = [jnp.broadcast_to(jnp.arange(x.shape[1])[None], x.shape) for x in sides]
        batch = {
            "encoder_input_tokens": tokens_BS,
            "encoder_segment_ids": (tokens_BS != 0).astype(jnp.int32),
            "encoder_positions": positions[0],
            "decoder_input_tokens": decoder_tokens_BT,
            "decoder_segment_ids": jnp.ones_like(decoder_tokens_BT),
            "decoder_positions": positions[1],
        }
        return model(batch).argmax(-1)

    decoder_tokens_BT = np.zeros((len(tokens_BS), MAX_LENGTH + 1), np.int32)
    decoder_tokens_BT[:, 0] = START
    for index in range(MAX_LENGTH):
        decoder_tokens_BT[:, index + 1] = next_tokens(jnp.asarray(decoder_tokens_BT[:, :-1]))[:, index]
    output_BT = decoder_tokens_BT[:, 1:]
    lengths_B = np.where(np.any(tokens_BS, axis=1), lengths(output_BT, end_id), 0)
    return np.where(np.arange(MAX_LENGTH) < lengths_B[:, None], output_BT, 0), lengths_B


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"norm_position": "pre", "tie_embeddings": False, "scan_layers": True, "remat": "full"},
        {"scale_embedding": True, "embedding_norm": False},
        {"norm": "rms", "positions": "rotary", "gated_ffn": True, "use_bias": False, "norm_position": "pre"},
    ],
)
def test_cached_greedy_equals_full_forward_passes(tiny, make_params, vocab_size, sources, jit, fields):
    config = tiny(**fields)
    params = make_params(config)
    # Without these a random model repeats one token: its input, or that of the longest row of the table.
    if config.positions == "learned":
        params["decoder"]["positions"] *= 5
    params["decoder"]["layers"]["ffn"]["down"]["kernel"] *= 3
    table_VD = params["embedding"]["tokens"]
    params["embedding"]["tokens"] = table_VD / jnp.linalg.norm(table_VD, axis=1, keepdims=True)
    free_BT, _ = naive(jit, config, vocab_size, params, sources, end_id=-1)
    end_id = max(np.unique(free_BT).tolist(), key=lambda token: len(set(lengths(free_BT, token))))
    expected_BT, expected_B = naive(jit, config, vocab_size, params, sources, end_id)
    got_BT, got_B = decoding.greedy(
        config, vocab_size, params, sources, max_length=MAX_LENGTH, start_id=START, end_id=end_id
    )
    np.testing.assert_array_equal(got_BT, expected_BT)
    np.testing.assert_array_equal(got_B, expected_B)
    assert got_BT.dtype == got_B.dtype == jnp.int32
    assert got_B[2] == 0, "a source of padding only"
    assert len(set(expected_B.tolist())) > 2, "rows should end at different lengths, or this tests little"


def test_stops_when_every_row_has_ended(tiny, make_params, vocab_size, sources, jit, monkeypatch):
    config = tiny()
    calls = []
    step = decoding.decode_step

    def counted(model, tokens_B, index, cache):
        jax.debug.callback(lambda i: calls.append(int(i)), index)
        return step(model, tokens_B, index, cache)

    params = make_params(config)
    source = sources[:1]
    free_BT, _ = naive(jit, config, vocab_size, params, source, end_id=-1)
    end_id = int(free_BT[0, 2])
    length = list(free_BT[0]).index(end_id) + 1
    monkeypatch.setattr(decoding, "decode_step", counted)
    fresh = jit(decoding.greedy.__wrapped__, static_argnames=("config", "vocab_size", "max_length"))
    result = fresh(config, vocab_size, params, source, max_length=MAX_LENGTH, start_id=START, end_id=end_id)
    jax.block_until_ready(result)
    jax.effects_barrier()
    assert sorted(calls) == list(range(length))


def test_cache_rows_can_be_reordered(tiny, make_params, vocab_size, sources, jit):
    config = tiny()
    model = transformer.module(config, vocab_size, make_params(config))
    segments_BS = (sources != 0).astype(jnp.int32)
    positions_BS = jnp.broadcast_to(jnp.arange(sources.shape[1])[None], sources.shape)
    encoded_BSD = model.encode(sources, segments_BS, positions_BS)
    order = jnp.asarray([3, 0, 0, 5, 1, 4])
    tokens_B = jnp.arange(10, 16)
    step = jit(lambda tokens_B, index, cache: decoding.decode_step(model, tokens_B, index, cache))
    cache = decoding.start_cache(model, encoded_BSD, segments_BS, MAX_LENGTH)
    assert all(leaf.shape[0] == len(sources) for leaf in jax.tree.leaves(cache))
    _, cache = step(tokens_B, 0, cache)
    logits_BV, _ = step(tokens_B, 1, cache)
    reordered = jax.tree.map(lambda leaf: leaf[order], cache)
    reordered_BV, _ = step(tokens_B[order], 1, reordered)
    np.testing.assert_allclose(reordered_BV, logits_BV[order], rtol=1e-5, atol=1e-5)


def test_max_length_beyond_the_positions_is_refused(tiny, make_params, vocab_size, sources):
    config = tiny()
    with pytest.raises(ValueError, match="max_length=21 exceeds max_positions=20"):
        decoding.greedy(
            config, vocab_size, make_params(config), sources, max_length=21, start_id=START, end_id=END
        )
