"""The attention kernels give what plain attention gives, forwards and backwards, dropout included.

The TPU kernels are interpreted here; that they compile for TPUs is tested in tests/planning/.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.config import ParallelConfig
from denoise_jax.errors import ConfigError
from denoise_jax.model.attention import attend
from denoise_jax.model.dropout import matrix_words
from denoise_jax.parallel import fused_attention, splash_attention
from denoise_jax.parallel.attention_choice import make_attention
from denoise_jax.parallel.mesh import make_mesh

# queries, keys, heads, head width, causal; rows are packed, padded and, but for one, no multiple of 128
CASES = {
    "encoder": (130, 130, 2, 64, False),
    "causal": (256, 256, 2, 64, True),
    "cross": (130, 200, 2, 32, False),
    "wide head": (128, 140, 1, 128, False),
    "odd heads": (130, 130, 3, 64, True),
}
KEY = jax.random.key(5)


def _inputs(queries, keys, heads, width, causal):
    rng = np.random.default_rng(0)
    arrays = [
        jnp.asarray(rng.normal(size=(2, length, heads, width)), jnp.float32)
        for length in (queries, keys, keys, queries)
    ]
    # Segments 3, 2, 1 and then padding; without causality, the last segment of the queries has no keys.
    query_segments_BT = np.sort(rng.integers(0, 4, (2, queries)))[:, ::-1].astype(np.int32)
    key_segments_BS = np.sort(rng.integers(0, 3, (2, keys)))[:, ::-1].astype(np.int32)
    if causal:
        key_segments_BS = query_segments_BT[:, :keys]
    return arrays, (jnp.asarray(query_segments_BT), jnp.asarray(key_segments_BS))


def _results(attention, case, **options):
    """The output and the gradients of queries, keys and values, for a random gradient of the output."""
    (*arrays, gradient), segments = _inputs(*case)

    def compute(*arrays):
        return attention(*arrays, *segments, causal=case[-1], **options)

    output, pull_back = jax.vjp(compute, *arrays)
    return (output, *pull_back(gradient))


def _assert_equal(found, expected):
    for ours, plain in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-5)


@pytest.mark.parametrize("rate", [0.0, 0.2])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_fused_kernel_agrees_with_plain_attention(case, rate):
    """With the same key, the very same weights are dropped."""
    seed_2 = jax.random.key_data(KEY)
    words_BH = matrix_words(seed_2, (2, case[2]))
    kernel = functools.partial(
        fused_attention.attend,
        words_BH=words_BH,
        second_word=seed_2[1],
        dropout_rate=rate,
        interpret=True,
    )
    plain = functools.partial(attend, dropout_rate=rate, dropout_key=KEY)
    _assert_equal(_results(kernel, case), _results(plain, case))


def test_several_blocks_of_queries_are_summed():
    """As 512 queries of 1024 keys are computed 256 at a time."""
    case = (512, 1024, 1, 64, False)
    words = {"words_BH": jnp.zeros((2, 1), jnp.uint32), "second_word": jnp.uint32(0)}
    kernel = functools.partial(fused_attention.attend, **words, interpret=True)
    assert fused_attention._block(512, 1024) == 256
    _assert_equal(_results(kernel, case), _results(attend, case))


@pytest.mark.parametrize("case", [CASES["encoder"], CASES["causal"], CASES["cross"]])
def test_the_splash_kernel_agrees_with_plain_attention(case):
    kernel = functools.partial(splash_attention.attend, interpret=True)
    _assert_equal(_results(kernel, case), _results(attend, case))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fused", "a kernel for TPUs, but the devices are CPUs"),
        ("splash", "a kernel for TPUs, but the devices are CPUs"),
        ("cudnn", "a kernel for GPUs, but the devices are CPUs"),
    ],
)
def test_a_kernel_for_other_hardware_is_refused(name, message):
    attention = make_attention(name, make_mesh(ParallelConfig()))
    with pytest.raises(ConfigError, match=f"parallel.attention='{name}': {message}"):
        _results(attention, CASES["encoder"])


@pytest.mark.parametrize("name", ["auto", "plain"])
def test_plain_attention_is_chosen_on_a_cpu(name):
    attention = make_attention(name, make_mesh(ParallelConfig()))
    found = _results(attention, CASES["encoder"], dropout_rate=0.1, dropout_key=KEY)
    expected = _results(attend, CASES["encoder"], dropout_rate=0.1, dropout_key=KEY)
    for ours, plain in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, plain)


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_cudnn_kernel_agrees_with_plain_attention(case):
    """In bfloat16, compared with plain attention in float32 by the norm of the difference."""
    cudnn = make_attention("cudnn", make_mesh(ParallelConfig()))

    def in_bfloat16(*inputs, causal):
        arrays = (x.astype(jnp.bfloat16) for x in inputs[:3])
        return cudnn(*arrays, *inputs[3:], causal=causal).astype(jnp.float32)

    for ours, plain in zip(_results(in_bfloat16, case), _results(attend, case), strict=True):
        error = np.linalg.norm(ours - plain) / np.linalg.norm(plain)
        assert error < 0.02, error
