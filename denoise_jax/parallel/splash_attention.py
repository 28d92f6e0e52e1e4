"""Attention on TPUs by the splash kernels of JAX (Pallas), which never write scores to memory.

Shape letters: B batch, T query positions, S key positions, H heads, K head width.
"""

import functools

import jax
from jax.experimental.pallas.ops.tpu import splash_attention as splash

from denoise_jax.model.attention import zero_where_nothing_is_seen
from denoise_jax.parallel.fused_attention import LANES, pad_rows

BLOCK = 512  # queries and keys per step of a kernel


def attend(
    query_BTHK: jax.Array,
    key_BSHK: jax.Array,
    value_BSHK: jax.Array,
    query_segments_BT: jax.Array,
    key_segments_BS: jax.Array,
    *,
    causal: bool,
    interpret: bool = False,
) -> jax.Array:
    """As `denoise_jax.model.attention.attend`, without dropout, on one device.

    Rows are padded to a multiple of 128 positions. `interpret` runs the kernels on any hardware, slowly.
    """
    heads, queries = query_BTHK.shape[2], query_BTHK.shape[1]
    query_BTHK, query_segments_BT = pad_rows(query_BTHK), pad_rows(query_segments_BT)
    key_BSHK, value_BSHK, key_segments_BS = (
        pad_rows(key_BSHK),
        pad_rows(value_BSHK),
        pad_rows(key_segments_BS),
    )
    kernel = _kernel(heads, query_BTHK.shape[1], key_BSHK.shape[1], causal, interpret)
    segments = splash.SegmentIds(query_segments_BT, key_segments_BS)
    scale = query_BTHK.shape[-1] ** -0.5
    by_head = (x.swapaxes(1, 2) for x in (query_BTHK * scale, key_BSHK, value_BSHK))
    mixed_BTHK = jax.vmap(kernel)(*by_head, segments).swapaxes(1, 2)
    # To the kernel, padding is one more segment.
    return zero_where_nothing_is_seen(mixed_BTHK, query_segments_BT, key_segments_BS)[:, :queries]


@functools.lru_cache
def _kernel(heads: int, queries: int, keys: int, causal: bool, interpret: bool):
    shape = queries, keys
    mask = splash.CausalMask(shape) if causal else splash.FullMask(shape)
    q, kv = _block(queries), _block(keys)
    blocks = splash.BlockSizes(
        block_q=q,
        block_kv=kv,
        block_kv_compute=kv,
        block_q_dkv=q,
        block_kv_dkv=kv,
        block_kv_dkv_compute=kv,
        use_fused_bwd_kernel=True,
    )
    with jax.ensure_compile_time_eval():
        return splash.make_splash_mha(
            splash.MultiHeadMask([mask] * heads),
            block_sizes=blocks,
            head_shards=1,
            q_seq_shards=1,
            interpret=interpret,
        )


def _block(length: int) -> int:
    """The largest multiple of 128 that divides `length`, up to `BLOCK`."""
    return max(block for block in range(LANES, BLOCK + 1, LANES) if length % block == 0)
