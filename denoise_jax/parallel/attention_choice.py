"""Which attention is computed on which hardware: one function with the signature of `model.attention.attend`.

| `parallel.attention` | computes |
| --- | --- |
| plain | matrix products and a softmax, on any hardware; scores are written to memory |
| fused | our TPU kernel, with dropout of the weights; rows of up to 2,048 tokens |
| splash | JAX's TPU kernel, for rows of any length; no dropout of the weights |
| cudnn | NVIDIA's kernel, through JAX; bfloat16, no dropout of the weights |
| auto | on TPUs fused, or splash for longer rows; on NVIDIA GPUs cudnn; else plain |
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from denoise_jax.errors import ConfigError
from denoise_jax.model.attention import attend, segment_mask, zero_where_nothing_is_seen
from denoise_jax.model.dropout import matrix_words
from denoise_jax.parallel import fused_attention, splash_attention
from denoise_jax.parallel.mesh import BATCH_AXES

_BTHK, _BT, _BH = P(BATCH_AXES, None, "tensor", None), P(BATCH_AXES, None), P(BATCH_AXES, "tensor")
_INPUTS = (_BTHK, _BTHK, _BTHK, _BT, _BT)


def make_attention(name: str, mesh: Mesh) -> Callable:
    """Attention over global arrays, with rows split over `data` and `fsdp` and heads over `tensor`.

    Args:
      name: see the table above.

    The returned function raises ConfigError if the kernel of that name cannot compute what it is given.
    """
    platform = mesh.devices.flat[0].platform

    def attention(query_BTHK, key_BSHK, value_BSHK, query_segments_BT, key_segments_BS, **options):
        shape, keys, dtype = query_BTHK.shape, key_BSHK.shape[1], value_BSHK.dtype
        rate = options.get("dropout_rate", 0.0) if options.get("dropout_key") is not None else 0.0
        choice = _best(platform, shape[-1], keys, dtype, rate) if name == "auto" else name
        if reason := _obstacle(choice, platform, shape[-1], keys, dtype, rate):
            raise ConfigError(f"parallel.attention={name!r}: {reason}; choose another, or 'auto'")
        compute = functools.partial(_KERNELS[choice], mesh)
        return compute(query_BTHK, key_BSHK, value_BSHK, query_segments_BT, key_segments_BS, **options)

    return attention


def _best(platform: str, head_width: int, keys: int, dtype, rate: float) -> str:
    candidates = {"tpu": ("fused", "splash"), "gpu": ("cudnn",)}.get(platform, ())
    usable = (name for name in candidates if not _obstacle(name, platform, head_width, keys, dtype, rate))
    return next(usable, "plain")


def _obstacle(name: str, platform: str, head_width: int, keys: int, dtype, rate: float) -> str | None:
    """Why a kernel cannot be used, or None."""
    needed = {"fused": "tpu", "splash": "tpu", "cudnn": "gpu"}.get(name, platform)
    if platform != needed:
        return f"a kernel for {needed.upper()}s, but the devices are {platform.upper()}s"
    if name in ("splash", "cudnn") and rate:
        return f"it cannot drop attention weights, but model.attention_dropout={rate}"
    if name == "fused" and keys > fused_attention.LONGEST:
        return f"rows of {keys} tokens are longer than {fused_attention.LONGEST}"
    if name == "cudnn" and (dtype != jnp.bfloat16 or head_width > 128 or head_width % 8):
        return f"it needs bfloat16 and heads of a multiple of 8 up to 128, not {dtype} and {head_width}"
    return None


def _plain(mesh, *inputs, **options):
    return attend(*inputs, **options)


def _fused(mesh, *inputs, causal, dropout_rate=0.0, dropout_key=None):
    rate = dropout_rate if dropout_key is not None else 0.0
    seed_2 = jax.random.key_data(dropout_key)[:2] if rate else jnp.zeros(2, jnp.uint32)
    words_BH = matrix_words(seed_2, inputs[0].shape[::2])  # of global rows and heads
    kernel = functools.partial(fused_attention.attend, causal=causal, dropout_rate=rate)
    return _per_device(kernel, mesh, (*_INPUTS, _BH, P()))(*inputs, words_BH, seed_2[1])


def _splash(mesh, *inputs, causal, **no_dropout):
    return _per_device(functools.partial(splash_attention.attend, causal=causal), mesh, _INPUTS)(*inputs)


def _cudnn(mesh, *inputs, causal, **no_dropout):
    def attend_on_gpu(query_BTHK, key_BSHK, value_BSHK, query_segments_BT, key_segments_BS):
        mask_BTS = segment_mask(query_segments_BT, key_segments_BS, causal=causal)
        mixed_BTHK = jax.nn.dot_product_attention(
            query_BTHK, key_BSHK, value_BSHK, mask=mask_BTS[:, None], implementation="cudnn"
        )
        return zero_where_nothing_is_seen(mixed_BTHK, query_segments_BT, key_segments_BS)

    return _per_device(attend_on_gpu, mesh, _INPUTS)(*inputs)


def _per_device(kernel: Callable, mesh: Mesh, in_specs) -> Callable:
    """The kernel on each device's rows and heads. (A kernel does not say along which axes it varies.)"""
    return jax.shard_map(kernel, mesh=mesh, in_specs=in_specs, out_specs=_BTHK, check_vma=False)


_KERNELS = {"plain": _plain, "fused": _fused, "splash": _splash, "cudnn": _cudnn}
