"""Which tokens influence which logits, in every architecture: segments, padding and causality."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.model import transformer
from denoise_jax.model.attention import SINGLE_DEVICE
from tests.model.helpers import BATCH, VARIANTS, VOCAB_SIZE, jit, pack, random_params, run_model, tiny_config

SOME = [
    pytest.param(fields, id=name, marks=[pytest.mark.slow] * (name == "gated post-norm"))
    for name, fields in VARIANTS.items()
]


@pytest.mark.parametrize("variant", SOME)
def test_packed_and_unpacked_examples_have_the_same_losses(variant):
    config = tiny_config(**variant)
    params = random_params(config)

    def losses(batch):
        targets_BT = jnp.roll(batch["decoder_input_tokens"], -1, axis=1)  # wrong only where a segment ends
        log_probs_BTV = jax.nn.log_softmax(run_model(config, params, batch))
        return -jnp.take_along_axis(log_probs_BTV, targets_BT[..., None], axis=-1)[..., 0]

    packed_BT = losses(pack([[(5, 4), (4, 5)], [], []]))
    unpacked_BT = losses(pack([[(5, 4)], [(4, 5)], []]))  # the same shape: compiled once
    np.testing.assert_allclose(packed_BT[0, :3], unpacked_BT[0, :3], rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(packed_BT[0, 4:8], unpacked_BT[1, :4], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("variant", SOME)
def test_padding_and_other_segments_have_no_influence(variant):
    config = tiny_config(**variant)
    params, batch = random_params(config), BATCH

    def changed(segment):
        """The batch with other tokens and positions in a segment."""
        result = dict(batch)
        for side in ("encoder", "decoder"):
            changed_here = batch[f"{side}_segment_ids"] == segment
            for name, value in (("input_tokens", 7), ("positions", 3)):
                result[f"{side}_{name}"] = jnp.where(changed_here, value, batch[f"{side}_{name}"])
        return result

    before_BTV = run_model(config, params, batch)
    segments_BT = np.asarray(batch["decoder_segment_ids"])
    for segment in (0, 2):
        after_BTV = run_model(config, params, changed(segment))
        others = (segments_BT != segment) & (segments_BT != 0)
        np.testing.assert_array_equal(after_BTV[others], before_BTV[others], err_msg=f"segment {segment}")
        assert jnp.abs(after_BTV - before_BTV)[segments_BT == segment].max() > 0.1, (
            "the segment itself changes"
        )


@pytest.mark.parametrize("variant", SOME)
def test_the_jacobian_is_zero_outside_the_segment_and_for_later_targets(variant):
    """The Jacobian of a packed row's logits with respect to its embedded source and target."""
    config = tiny_config(num_encoder_layers=1, num_decoder_layers=1, **variant)
    model = transformer.bind_params(config, random_params(config))
    row = pack([[(5, 4), (4, 5)]])
    segments_BS, segments_BT = row["encoder_segment_ids"], row["decoder_segment_ids"]

    def logits(source_SD, target_TD):
        options = {"dropout_key": None, "placement": SINGLE_DEVICE}
        source = segments_BS, model.encoder.cos_sin(row["encoder_positions"])
        encoded_BSD = model.encoder.run(source_SD[None], *source, **options)
        inputs = segments_BT, model.decoder.cos_sin(row["decoder_positions"]), encoded_BSD, segments_BS
        return model.logits(model.decoder.run(target_TD[None], *inputs, **options))[0, :, :VOCAB_SIZE]

    draw = np.random.default_rng(0).standard_normal
    source_SD, target_TD = (jnp.asarray(draw((n, 16)).astype(np.float32)) for n in (12, 10))
    by_source, by_target = jit(jax.jacrev(logits, argnums=(0, 1)))(source_SD, target_TD)
    influence_TS = np.abs(by_source).max((1, 3)) > 0
    influence_TT = np.abs(by_target).max((1, 3)) > 0
    source_segments, target_segments = np.asarray(segments_BS[0]), np.asarray(segments_BT[0])
    same_TT = target_segments[:, None] == target_segments[None]
    real_T1 = (target_segments != 0)[:, None]
    np.testing.assert_array_equal(influence_TS, (target_segments[:, None] == source_segments) & real_T1)
    expected_TT = np.tril(same_TT & real_T1) | np.eye(len(target_segments), dtype=bool)
    np.testing.assert_array_equal(influence_TT, expected_TT)
