"""The abstract batch has the names and shapes of what the loader and the model agree on."""

import jax
import jax.numpy as jnp
import numpy as np

from denoise_jax.model.batch import BATCH, MODEL_INPUTS, abstract_batch, is_kind
from denoise_jax.target_kinds import HIDDEN, TargetKind


def test_encoder_and_decoder_rows_have_their_lengths(tiny_config):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    batch = abstract_batch(tiny_config.data, sharding)
    assert tuple(batch) == BATCH and BATCH[: len(MODEL_INPUTS)] == MODEL_INPUTS
    for name, leaf in batch.items():
        length = 48 if name.startswith("encoder") else 64
        assert (leaf.shape, leaf.dtype, leaf.sharding) == ((16, length), jnp.int32, sharding), name


def test_padding_is_of_no_kind():
    kind_BT = jnp.arange(7, dtype=jnp.int32)[None]
    np.testing.assert_array_equal(is_kind(kind_BT, HIDDEN)[0], np.isin(np.arange(7), HIDDEN))
    assert not is_kind(kind_BT, tuple(TargetKind))[0, 0]
