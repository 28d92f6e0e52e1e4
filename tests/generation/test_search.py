"""What `generate_tokens` refuses."""

import pytest

from denoise_jax.generation.decoding import DecodingOptions
from tests.generation.helpers import LENGTH, START, decode
from tests.model.helpers import tiny_config


def test_contradictory_options_are_refused():
    config = tiny_config()
    with pytest.raises(ValueError, match="max_new_tokens=21 exceeds max_positions=20"):
        decode(config, DecodingOptions(21, START, 1))
    with pytest.raises(ValueError, match="num_return_sequences=3 exceeds num_beams=2"):
        decode(config, DecodingOptions(LENGTH, START, 1, num_beams=2, num_return_sequences=3))
    with pytest.raises(ValueError, match="do_sample requires keys_B"):
        decode(config, DecodingOptions(LENGTH, START, 1, do_sample=True))
