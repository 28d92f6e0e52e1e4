"""Beam search with a cache against plain beam search over full forward passes."""

import pytest

from tests.generation.helpers import check_search
from tests.model.helpers import MODERN, tiny_config

MODELS = {
    "post-norm": {},
    "pre-norm": {"norm_position": "pre", "tie_embeddings": False, "scan_layers": True, "remat": "full"},
    "scaled": {"scale_embedding": True, "embedding_norm": False},
    "modern": MODERN,
}
CASES = {
    "default": ("post-norm", {"num_beams": 3}),
    "modern": ("modern", {"num_beams": 3, "no_repeat_ngram_size": 2}),
    "early stopping": ("pre-norm", {"num_beams": 4, "early_stopping": True}),
    "forced tokens": (
        "post-norm",
        {"num_beams": 3, "forced_bos_id": 9, "forced_eos_id": "end", "no_repeat_ngram_size": 1},
    ),
    "never": ("post-norm", {"num_beams": 2, "length_penalty": 0.6, "early_stopping": "never"}),
    "negative penalty": ("scaled", {"num_beams": 2, "length_penalty": -0.5, "no_repeat_ngram_size": 3}),
}


SLOW = ("early stopping", "negative penalty")


@pytest.mark.parametrize(
    ("model", "fields"),
    [pytest.param(*v, id=k, marks=[pytest.mark.slow] * (k in SLOW)) for k, v in CASES.items()],
)
def test_beam_search_equals_a_plain_beam_search(model, fields):
    check_search(tiny_config(**MODELS[model]), **fields)
