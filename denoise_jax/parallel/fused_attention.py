"""Attention on TPUs by one Pallas kernel in each direction, with dropout of the weights.

A program of the kernel computes a block of queries against all keys of a few heads. So the softmax needs one
pass, the backward pass needs nothing but the inputs, and scores, weights and the bits of dropout are never
written to memory. Heads are read in the layout in which they are projected, as many as fill 128 lanes:
nothing is transposed or padded. Rows of many thousand positions would need blocks of keys as well, as flash
attention has them.

Shape letters: B batch, T query positions, S key positions, H heads, K head width, W = H * K.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from denoise_jax.model.attention import LOWEST_MAXIMUM, MASKED
from denoise_jax.model.dropout import keep_mask

LANES, SUBLANES = 128, 8
SCORES = 512 * 512  # scores of a program: a handful of float32 arrays of this size fit into fast memory
LONGEST = SCORES // LANES  # keys


@dataclasses.dataclass(frozen=True)
class _Options:
    heads: int
    head_width: int
    keys: int  # before padding
    causal: bool
    dropout_rate: float
    interpret: bool

    @property
    def group(self) -> int:
        """Heads of a program: as many as fill the lanes, or all."""
        group = LANES // math.gcd(LANES, self.head_width)
        return group if self.heads % group == 0 else self.heads


def attend(
    query_BTHK: jax.Array,
    key_BSHK: jax.Array,
    value_BSHK: jax.Array,
    query_segments_BT: jax.Array,
    key_segments_BS: jax.Array,
    words_BH: jax.Array,
    second_word: jax.Array,
    *,
    causal: bool,
    dropout_rate: float = 0.0,
    interpret: bool = False,
) -> jax.Array:
    """As `denoise_jax.model.attention.attend`, on one device and up to `LONGEST` keys.

    Args:
      words_BH, second_word: uint32, the seeds of dropout (`denoise_jax.model.dropout.matrix_words`); not read
        at rate 0.
      interpret: run the kernel on any hardware, slowly.
    """
    batch, queries, heads, width = query_BTHK.shape
    options = _Options(heads, width, key_BSHK.shape[1], causal, dropout_rate, interpret)
    rows = (x.reshape(*x.shape[:2], -1) for x in (query_BTHK * width**-0.5, key_BSHK, value_BSHK))
    segments = pad_rows(query_segments_BT), pad_rows(key_segments_BS)
    mixed_BTW = _attend(options, *map(pad_rows, rows), *segments, words_BH, second_word.reshape(1))
    return mixed_BTW[:, :queries].reshape(batch, queries, heads, width)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(options, query_BTW, key_BSW, value_BSW, *segments_and_words):
    (out_BTW,) = _call(_forward_kernel, options, (query_BTW,), (key_BSW, value_BSW), *segments_and_words)
    return out_BTW


def _save_inputs(options, *inputs):
    return _attend(options, *inputs), inputs


def _gradients(options, inputs, gradient_BTW):
    query_BTW, key_BSW, value_BSW, *segments_and_words = inputs
    of_queries, of_keys = (query_BTW, gradient_BTW), (key_BSW, value_BSW)
    gradients = _call(_backward_kernel, options, of_queries, of_keys, *segments_and_words)
    return *gradients, *[None] * len(segments_and_words)


_attend.defvjp(_save_inputs, _gradients)


def _call(
    kernel: Callable, options: _Options, of_queries, of_keys, query_segments_BT, key_segments_BS, *words
) -> list[jax.Array]:
    """Runs a kernel over a grid of (row, group of heads, block of queries).

    Both kernels return an array like the queries; the backward kernel also returns two like the keys, which
    it sums over the blocks of queries.
    """
    (batch, queries, _), keys = of_queries[0].shape, of_keys[0].shape[1]
    lanes, block = options.group * options.head_width, _block(queries, keys)
    query_spec = pl.BlockSpec((None, block, lanes), lambda row, group, block: (row, block, group))
    key_spec = pl.BlockSpec((None, keys, lanes), lambda row, group, block: (row, 0, group))
    backward = kernel is _backward_kernel
    outputs = of_queries[:1] + of_keys * backward
    products = (5 if backward else 2) * 2 * queries * keys * math.prod(of_queries[0].shape[::2])
    arrays = (*of_queries, *of_keys, *outputs)
    return pl.pallas_call(
        functools.partial(kernel, options),
        grid=(batch, options.heads // options.group, queries // block),
        in_specs=[
            *[query_spec] * len(of_queries),
            *[key_spec] * len(of_keys),
            pl.BlockSpec((None, SUBLANES, block), lambda row, group, block: (row, 0, block)),
            pl.BlockSpec((None, keys, LANES), lambda row, group, block: (row, 0, 0)),
            *[pl.BlockSpec(memory_space=pltpu.SMEM)] * 2,
        ],
        out_specs=[query_spec, *[key_spec] * 2 * backward],
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in outputs],
        scratch_shapes=[pltpu.VMEM((keys, lanes), jnp.float32)] * 2 * backward,
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
        cost_estimate=pl.CostEstimate(
            flops=products,
            transcendentals=batch * options.heads * queries * keys,
            bytes_accessed=sum(x.size * x.dtype.itemsize for x in arrays),
        ),
        interpret=options.interpret,
        name="attention" + "_dropout" * bool(options.dropout_rate) + "_backward" * backward,
    )(*of_queries, *of_keys, _along_lanes(query_segments_BT), _along_sublanes(key_segments_BS), *words)


def _forward_kernel(
    options,
    query_ref,
    key_ref,
    value_ref,
    query_segments_ref,
    key_segments_ref,
    words_ref,
    second_ref,
    out_ref,
):
    query_1T = pl.program_id(2) * len(query_ref) + _iota((1, len(query_ref)), 1)
    key_S1 = _iota((len(key_ref), 1), 0)
    mask_ST = _mask(options, query_segments_ref[:1], key_segments_ref[:, :1], query_1T, key_S1)
    for lanes, word in _heads(options, words_ref):
        scores_ST = jnp.where(mask_ST, _dot(key_ref[:, lanes], query_ref[:, lanes], (1, 1)), MASKED)
        maximum_1T = jnp.maximum(scores_ST.max(axis=0, keepdims=True), LOWEST_MAXIMUM)
        weights_ST = jnp.exp(scores_ST - maximum_1T)
        total_1T = jnp.maximum(weights_ST.sum(axis=0, keepdims=True), 0.5)
        if options.dropout_rate:
            keep_ST = _keep(options, word, second_ref, query_1T, key_S1)
            weights_ST = jnp.where(keep_ST, weights_ST, 0)
            total_1T = total_1T * (1 - options.dropout_rate)
        mixed_KT = _dot(value_ref[:, lanes], weights_ST.astype(value_ref.dtype), (0, 0)) / total_1T
        out_ref[:, lanes] = mixed_KT.T.astype(out_ref.dtype)


def _backward_kernel(
    options,
    query_ref,
    gradient_ref,
    key_ref,
    value_ref,
    query_segments_ref,
    key_segments_ref,
    words_ref,
    second_ref,
    query_out_ref,
    key_out_ref,
    value_out_ref,
    key_sum_ref,
    value_sum_ref,
):
    """Computes the weights again. Sums over keys are along sublanes here, where they are cheapest."""
    block, blocks = pl.program_id(2), pl.num_programs(2)
    query_1T = block * len(query_ref) + _iota((1, len(query_ref)), 1)
    key_S1 = _iota((len(key_ref), 1), 0)
    mask_ST = _mask(options, query_segments_ref[:1], key_segments_ref[:, :1], query_1T, key_S1)

    @pl.when(block == 0)
    def _():
        key_sum_ref[...] = jnp.zeros_like(key_sum_ref)
        value_sum_ref[...] = jnp.zeros_like(value_sum_ref)

    for lanes, word in _heads(options, words_ref):
        query_TK, gradient_TK = query_ref[:, lanes], gradient_ref[:, lanes]
        scores_ST = jnp.where(mask_ST, _dot(key_ref[:, lanes], query_TK, (1, 1)), MASKED)
        maximum_1T = jnp.maximum(scores_ST.max(axis=0, keepdims=True), LOWEST_MAXIMUM)
        weights_ST = jnp.exp(scores_ST - maximum_1T)
        weights_ST *= 1 / jnp.maximum(weights_ST.sum(axis=0, keepdims=True), 0.5)
        of_weights_ST = _dot(value_ref[:, lanes], gradient_TK, (1, 1))
        kept_ST = weights_ST
        if options.dropout_rate:
            scale_ST = jnp.where(
                _keep(options, word, second_ref, query_1T, key_S1), 1 / (1 - options.dropout_rate), 0
            )
            kept_ST, of_weights_ST = weights_ST * scale_ST, of_weights_ST * scale_ST
        mean_1T = (weights_ST * of_weights_ST).sum(axis=0, keepdims=True)
        of_scores_ST = (weights_ST * (of_weights_ST - mean_1T)).astype(query_TK.dtype)
        value_sum_ref[:, lanes] += _dot(kept_ST.astype(gradient_TK.dtype), gradient_TK, (1, 0))
        key_sum_ref[:, lanes] += _dot(of_scores_ST, query_TK, (1, 0))
        of_query_TK = _dot(key_ref[:, lanes], of_scores_ST, (0, 0)).T
        query_out_ref[:, lanes] = of_query_TK.astype(query_out_ref.dtype)

    @pl.when(block == blocks - 1)
    def _():
        key_out_ref[...] = key_sum_ref[...].astype(key_out_ref.dtype)
        value_out_ref[...] = value_sum_ref[...].astype(value_out_ref.dtype)


def _heads(options: _Options, words_ref) -> Iterator[tuple[slice, jax.Array]]:
    """(lanes, first word of dropout) of each head of this program."""
    row, group = pl.program_id(0), pl.program_id(1)
    for head in range(options.group):
        lanes = slice(head * options.head_width, (head + 1) * options.head_width)
        yield lanes, words_ref[row, group * options.group + head]


def _mask(options: _Options, query_segments, key_segments, queries, keys) -> jax.Array:
    mask = (query_segments == key_segments) & (key_segments != 0)
    return mask & (queries >= keys) if options.causal else mask


def _keep(options: _Options, word, second_ref, queries, keys) -> jax.Array:
    positions = (queries * options.keys + keys).astype(jnp.uint32)
    return keep_mask(word, second_ref[0], positions, options.dropout_rate)


def _dot(x: jax.Array, y: jax.Array, contracted: tuple[int, int]) -> jax.Array:
    axes = (contracted[:1], contracted[1:]), ((), ())
    return jax.lax.dot_general(x, y, axes, preferred_element_type=jnp.float32)


def _iota(shape: tuple[int, int], axis: int) -> jax.Array:
    return jax.lax.broadcasted_iota(jnp.int32, shape, axis)


def _block(queries: int, keys: int) -> int:
    """Queries of a program: the largest multiple of 128 that divides them and gives at most `SCORES`."""
    fitting = range(LANES, max(SCORES // keys, LANES) + 1, LANES)
    return max(block for block in fitting if queries % block == 0)


def pad_rows(x: jax.Array) -> jax.Array:
    """x with its second axis padded by zeros, which are padding's segment, to a multiple of 128."""
    missing = -x.shape[1] % LANES
    return jnp.pad(x, ((0, 0), (0, missing), *((0, 0) for _ in x.shape[2:])))


def _along_lanes(segments_BT: jax.Array) -> jax.Array:
    return jnp.broadcast_to(segments_BT[:, None, :], (len(segments_BT), SUBLANES, segments_BT.shape[1]))


def _along_sublanes(segments_BT: jax.Array) -> jax.Array:
    return jnp.broadcast_to(segments_BT[:, :, None], (*segments_BT.shape, LANES))
