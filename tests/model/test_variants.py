"""What may influence what, in every architecture: segments, padding, causality, the decoding cache."""

import jax
import jax.numpy as jnp
import numpy as np

from denoise_jax.generation import decoding
from denoise_jax.model import transformer
from denoise_jax.training.loss import token_losses


def test_packed_and_unpacked_rows_have_the_same_losses(tiny, variant, make_params, pack, run):
    config = tiny(**variant)
    params = make_params(config)

    def losses(batch):
        targets_BT = jnp.roll(batch["decoder_input_tokens"], -1, axis=1)  # wrong only where a segment ends
        return token_losses(run(config, params, batch), targets_BT)[0]

    packed_BT = losses(pack([[(5, 4), (4, 5)]]))
    unpacked_BT = losses(pack([[(5, 4)], [(4, 5)]], 9, 7))
    np.testing.assert_allclose(packed_BT[0, :3], unpacked_BT[0, :3], rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(packed_BT[0, 4:8], unpacked_BT[1, :4], rtol=1e-5, atol=2e-5)


def test_padding_and_other_segments_have_no_influence(tiny, variant, make_params, pack, run):
    config = tiny(**variant)
    params, batch = make_params(config), pack([[(5, 4), (4, 5)], [(12, 10)], []])

    def changed(segment):
        """The batch with other tokens and positions in a segment."""
        result = dict(batch)
        for side in ("encoder", "decoder"):
            there = batch[f"{side}_segment_ids"] == segment
            for name, value in (("input_tokens", 7), ("positions", 3)):
                result[f"{side}_{name}"] = jnp.where(there, value, batch[f"{side}_{name}"])
        return result

    before_BTV = run(config, params, batch)
    segments_BT = np.asarray(batch["decoder_segment_ids"])
    for segment in (0, 2):
        after_BTV = run(config, params, changed(segment))
        others = (segments_BT != segment) & (segments_BT != 0)
        np.testing.assert_array_equal(after_BTV[others], before_BTV[others], err_msg=f"segment {segment}")
        assert jnp.abs(after_BTV - before_BTV)[segments_BT == segment].max() > 0.1, "the change is seen there"


def test_the_jacobian_is_zero_but_within_segments_and_backwards(
    tiny, variant, make_params, pack, vocab_size, jit
):
    """Of a packed row's logits by its embedded source and target: exactly 0 where nothing may be seen."""
    config = tiny(num_encoder_layers=1, **variant)
    model = transformer.bind_params(config, make_params(config))
    row = pack([[(5, 4), (4, 5)]])
    segments_BS, segments_BT = row["encoder_segment_ids"], row["decoder_segment_ids"]

    def logits(source_SD, target_TD):
        pinned = {"key": None, "constrain": transformer.identity}
        source = segments_BS, model.encoder.turns(row["encoder_positions"])
        encoded_BSD = model.encoder.run(source_SD[None], *source, **pinned)
        inputs = segments_BT, model.decoder.turns(row["decoder_positions"]), encoded_BSD, segments_BS
        return model.logits(model.decoder.run(target_TD[None], *inputs, **pinned))[0, :, :vocab_size]

    draw = np.random.default_rng(0).standard_normal
    source_SD, target_TD = (jnp.asarray(draw((n, 16)).astype(np.float32)) for n in (12, 10))
    by_source, by_target = jit(jax.jacfwd(logits, argnums=(0, 1)))(source_SD, target_TD)
    influence_TS = np.abs(by_source).max((1, 3)) > 0
    influence_TT = np.abs(by_target).max((1, 3)) > 0
    source_segments, target_segments = np.asarray(segments_BS[0]), np.asarray(segments_BT[0])
    same_TT = target_segments[:, None] == target_segments[None]
    real_T1 = (target_segments != 0)[:, None]
    np.testing.assert_array_equal(influence_TS, (target_segments[:, None] == source_segments) & real_T1)
    expected_TT = np.tril(same_TT & real_T1) | np.eye(len(target_segments), dtype=bool)
    np.testing.assert_array_equal(influence_TT, expected_TT)


def test_decoding_step_by_step_gives_the_logits_of_the_full_pass(
    tiny, variant, make_params, pack, run, vocab_size, jit
):
    config = tiny(**variant)
    params, batch = make_params(config), pack([[(5, 10)], [(12, 10)]])
    expected_BTV = run(config, params, batch)
    model = transformer.bind_params(config, params)
    tokens_BT = batch["decoder_input_tokens"]
    length = tokens_BT.shape[1]

    @jit
    def stepwise():
        one_step, cache = decoding.start(model, batch["encoder_input_tokens"], length, 1, shared=False)

        def step(cache, index_and_tokens):
            index, tokens_B = index_and_tokens
            past_11M = (jnp.arange(length) <= index)[None, None]
            logits_VB1, cache = one_step(tokens_B[:, None], index, past_11M, cache)
            return cache, logits_VB1[..., 0].T

        return jax.lax.scan(step, cache, (jnp.arange(length), tokens_BT.T))[1]

    got_BTV = stepwise().swapaxes(0, 1)[..., :vocab_size]
    np.testing.assert_allclose(got_BTV, expected_BTV[..., :vocab_size], rtol=1e-4, atol=1e-4)
