"""denoise_jax.corruption works with TensorFlow alone: with other trainers, and without SeqIO."""

import subprocess
import sys

import pytest

PROGRAM = """
import importlib.abc, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Block())
import tensorflow as tf
from denoise_jax import corruption
symbols = corruption.Symbols(mask_token=4, vocab_size=100, protected=(0, 1, 2, 3))
corrupt = corruption.build("bart_paper", symbols)
noised = corrupt(corruption.clean(tf.range(10, 30)), tf.constant([1], tf.int64))
print(int(tf.reduce_sum(tf.cast(noised.target_noise == corruption.TargetNoise.COVERED, tf.int32))))
"""
BLOCKED = (
    "seqio tensorflow_text tensorflow_datasets sentencepiece jax jaxlib flax optax orbax pydantic rich tyro "
)
BLOCKED += "jinja2 clu hypothesis pytest"


@pytest.mark.slow  # tests/test_architecture.py checks the import statements themselves
def test_corruptions_need_only_tensorflow(repository):
    program = PROGRAM.format(blocked=set(BLOCKED.split()))
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.stdout.strip() == "6", result.stderr[-2000:]
