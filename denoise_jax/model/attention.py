"""Multi-head attention over packed rows.

Scores are computed in one place, `attend`, which takes segment ids and a causal flag rather than a dense
mask because that is what fused attention kernels take. The model never calls it directly: it calls the
`attention` of its `Placement`, so a kernel for a mesh can be supplied from outside the model.

Shape letters: B batch, T query positions, S key positions, D width, H heads, K head width.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from denoise_jax.config import ModelConfig
from denoise_jax.model.dropout import dropout
from denoise_jax.model.linear import make_linear
from denoise_jax.model.rotary import apply_rotary

ATTENTION_OUTPUT = "attention_output"
# A masked score: far below any real score and far above the float32 minimum, so differences stay finite.
MASKED = -1e30
# Lower bound on the maximum that is subtracted from the scores; keeps exp(MASKED - maximum) at 0.
LOWEST_MAXIMUM = -1e20


def segment_mask(query_segments_BT: jax.Array, key_segments_BS: jax.Array, *, causal: bool) -> jax.Array:
    """Whether each query may attend to each key, bool [B, T, S].

    A query sees the keys of its own segment, never padding (segment 0) and, if causal, no later index.
    """
    queries_BT1, keys_B1S = query_segments_BT[:, :, None], key_segments_BS[:, None, :]
    mask_BTS = (queries_BT1 == keys_B1S) & (keys_B1S != 0)
    if causal:
        queries, keys = mask_BTS.shape[1:]
        mask_BTS &= (jnp.arange(queries)[:, None] >= jnp.arange(keys)[None, :])[None]
    return mask_BTS


def zero_where_nothing_is_seen(
    mixed_BTHK: jax.Array, query_segments_BT: jax.Array, key_segments_BS: jax.Array
) -> jax.Array:
    """The output of a kernel, with zeros for queries that may attend to no key, as in `attend`."""
    seen_BT = segment_mask(query_segments_BT, key_segments_BS, causal=False).any(axis=-1)
    return jnp.where(seen_BT[..., None, None], mixed_BTHK, 0)


def attend(
    query_BTHK: jax.Array,
    key_BSHK: jax.Array,
    value_BSHK: jax.Array,
    query_segments_BT: jax.Array,
    key_segments_BS: jax.Array,
    *,
    causal: bool,
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """Scaled dot-product attention within segments; returns [B, T, H, K] in the dtype of the values.

    Scores and sums are float32. Segments are contiguous, so causality can compare indices in the row. The
    softmax is normalised after the product with the values: on [T, K] instead of [T, S] numbers. The output
    of a query that sees no key (padding, or a segment without keys) is zero, with zero gradient.
    """
    scale = query_BTHK.shape[-1] ** -0.5
    scores_BHTS = jnp.einsum(
        "BTHK,BSHK->BHTS", query_BTHK * scale, key_BSHK, preferred_element_type=jnp.float32
    )
    mask_B1TS = segment_mask(query_segments_BT, key_segments_BS, causal=causal)[:, None]
    scores_BHTS = jnp.where(mask_B1TS, scores_BHTS, MASKED)
    maximum_BHT1 = jnp.maximum(scores_BHTS.max(axis=-1, keepdims=True), LOWEST_MAXIMUM)
    weights_BHTS = jnp.exp(scores_BHTS - jax.lax.stop_gradient(maximum_BHT1))
    # The largest weight is 1, so a sum below 1 means that no key is visible and that all weights are 0.
    total_BTH1 = jnp.maximum(jnp.einsum("BHTS->BTH", weights_BHTS), 0.5)[..., None]
    weights_BHTS = dropout(weights_BHTS, dropout_rate, dropout_key).astype(value_BSHK.dtype)
    mixed_BTHK = jnp.einsum("BHTS,BSHK->BTHK", weights_BHTS, value_BSHK)
    return (mixed_BTHK.astype(jnp.float32) / total_BTH1).astype(mixed_BTHK.dtype)


class Placement:
    """How the model uses the hardware. This one: a single device and plain attention.

    `denoise_jax.parallel.placement.MeshPlacement` is the one for a mesh. `attention` has the signature of
    `attend`.
    """

    attention = staticmethod(attend)

    def constrain(self, x: jax.Array, kind: str) -> jax.Array:
        """x, laid out as activations of its kind are: "residual", "logits" or "classes"."""
        return x

    def gather(self, parameters, path: str):
        """The parameters below `path`, from the layout of the train state to that of their use."""
        return parameters

    def scatter_gradients(self, layer, path: str):
        """One layer of the stack at `path`, whose gradient gets the layout of the train state at once."""
        return layer

    def map_rows(self, function: Callable, shared, rows):
        """`function(shared, rows)`, which returns (sums over its rows, rows), of all rows of a batch."""
        return function(shared, rows)


SINGLE_DEVICE = Placement()


class Attention(nnx.Module):
    """Multi-head attention with kernels [D, H*K] and, for `out`, [H*K, D].

    Queries and keys are rotated if `cos_sin` is given (self-attention with rotary positions). Queries are
    projected by `queries`, keys and values by `keys_values`.
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        width = config.embed_dim
        self.query, self.key, self.value, self.out = (
            make_linear(config, rngs, width, width) for _ in range(4)
        )
        self.num_heads = config.num_heads
        self.dropout_rate = config.attention_dropout

    def _split_heads(self, x_BTD: jax.Array) -> jax.Array:
        return x_BTD.reshape(*x_BTD.shape[:-1], self.num_heads, -1)

    def queries(self, x_BTD: jax.Array, cos_sin_BTK: jax.Array | None = None) -> jax.Array:
        """Projected and rotated queries, [B, T, H, K]."""
        return apply_rotary(self._split_heads(self.query(x_BTD)), cos_sin_BTK)

    def keys_values(
        self, source_BSD: jax.Array, cos_sin_BSK: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Projected and rotated keys, and projected values, [B, S, H, K] each."""
        key_BSHK = apply_rotary(self._split_heads(self.key(source_BSD)), cos_sin_BSK)
        return key_BSHK, self._split_heads(self.value(source_BSD))

    def __call__(
        self,
        x_BTD: jax.Array,
        keys_values: tuple[jax.Array, jax.Array],
        query_segments_BT: jax.Array,
        key_segments_BS: jax.Array,
        cos_sin_BTK: jax.Array | None = None,
        *,
        causal: bool = False,
        dropout_key: jax.Array | None = None,
        placement: Placement = SINGLE_DEVICE,
    ) -> jax.Array:
        """Attention of x over projected keys and values; returns [B, T, D] in the compute dtype."""
        mixed_BTHK = placement.attention(
            self.queries(x_BTD, cos_sin_BTK),
            *keys_values,
            query_segments_BT,
            key_segments_BS,
            causal=causal,
            dropout_rate=self.dropout_rate,
            dropout_key=dropout_key,
        )
        # Named for `remat`: with it saved, the kernel is not computed again in the backward pass.
        mixed_BTHK = checkpoint_name(mixed_BTHK, ATTENTION_OUTPUT)
        return self.out(mixed_BTHK.reshape(x_BTD.shape))
