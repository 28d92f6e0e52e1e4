"""Attention over packed rows, told apart by segment ids.

`attend` is the one place where scores are computed, so that a fused kernel can take its place. It is given
segment ids and a causal flag rather than a dense mask, because that is what such kernels take.

Shape letters: B batch, T query positions, S key positions, D width, H heads, K head width.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from denoise_jax.config import ModelConfig
from denoise_jax.model.dropout import dropout
from denoise_jax.model.linear import make_linear
from denoise_jax.model.rotary import rotate

# Far below any score, far above the float32 minimum: differences of two such numbers stay finite.
MASKED = -1e30
LOWEST_MAXIMUM = -1e20


def visible(query_segments_BT: jax.Array, key_segments_BS: jax.Array, *, causal: bool) -> jax.Array:
    """Which keys each query may see, bool [B, T, S].

    Its own segment, no padding (segment 0) and, where causal, no later row index.
    """
    queries_BT1, keys_B1S = query_segments_BT[:, :, None], key_segments_BS[:, None, :]
    mask_BTS = (queries_BT1 == keys_B1S) & (keys_B1S != 0)
    if causal:
        rows, columns = mask_BTS.shape[1:]
        mask_BTS &= (jnp.arange(rows)[:, None] >= jnp.arange(columns)[None, :])[None]
    return mask_BTS


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
    """Scaled dot-product attention inside segments; returns [B, T, H, K] in the dtype of the values.

    Scores and sums are float32. Segments are contiguous in a row, so causality is by row index. The division
    by the sum comes after the product with the values, on [T, K] instead of [T, S] numbers. A query that sees
    no key (padding, or a segment absent from the keys) gets zeros, and passes no gradient on.
    """
    scale = query_BTHK.shape[-1] ** -0.5
    scores_BHTS = jnp.einsum(
        "BTHK,BSHK->BHTS", query_BTHK * scale, key_BSHK, preferred_element_type=jnp.float32
    )
    mask_B1TS = visible(query_segments_BT, key_segments_BS, causal=causal)[:, None]
    scores_BHTS = jnp.where(mask_B1TS, scores_BHTS, MASKED)
    maximum_BHT1 = jnp.maximum(scores_BHTS.max(axis=-1, keepdims=True), LOWEST_MAXIMUM)
    weights_BHTS = jnp.exp(scores_BHTS - jax.lax.stop_gradient(maximum_BHT1))
    # The largest weight is 1, so a sum below it means that no key is seen: divide those zeros by anything.
    total_BTH1 = jnp.maximum(jnp.einsum("BHTS->BTH", weights_BHTS), 0.5)[..., None]
    weights_BHTS = dropout(weights_BHTS, dropout_rate, dropout_key).astype(value_BSHK.dtype)
    mixed_BTHK = jnp.einsum("BHTS,BSHK->BTHK", weights_BHTS, value_BSHK)
    return (mixed_BTHK.astype(jnp.float32) / total_BTH1).astype(mixed_BTHK.dtype)


def attend_cached(
    query_BNHK: jax.Array, key_BHKP: jax.Array, value_BHPK: jax.Array, mask_BNP: jax.Array
) -> jax.Array:
    """`attend` for the N rows that decode one prompt, over keys they share; returns [B, N, H, K].

    Keys and values lie as matrix products want them, so that nothing is turned at each step: on a CPU this
    makes a step of attention five times as fast. `mask_BNP` says what each row sees; its axes may be 1.
    """
    scale = query_BNHK.shape[-1] ** -0.5
    scores_BHNP = jnp.einsum(
        "BNHK,BHKP->BHNP", query_BNHK * scale, key_BHKP, preferred_element_type=jnp.float32
    )
    scores_BHNP = jnp.where(mask_BNP[:, None], scores_BHNP, MASKED)
    maximum_BHN1 = jnp.maximum(scores_BHNP.max(axis=-1, keepdims=True), LOWEST_MAXIMUM)
    weights_BHNP = jnp.exp(scores_BHNP - maximum_BHN1)
    total_BHN1 = jnp.maximum(weights_BHNP.sum(axis=-1, keepdims=True), 0.5)
    mixed_BHNK = jnp.einsum("BHNP,BHPK->BHNK", weights_BHNP.astype(value_BHPK.dtype), value_BHPK)
    return (mixed_BHNK.astype(jnp.float32) / total_BHN1).astype(mixed_BHNK.dtype).swapaxes(1, 2)


class Attention(nnx.Module):
    """Multi-head attention; kernels [D, H*K] and, of `out`, [H*K, D].

    Given the `turns` of its positions, it rotates what it projects; without, as for the keys and queries
    between decoder and encoder, it does not.
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

    def keys_values(
        self, source_BSD: jax.Array, turns_BSK: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Projected keys, rotated by the turns, and values, [B, S, H, K] each: what a cache holds."""
        key_BSHK = rotate(self._split_heads(self.key(source_BSD)), turns_BSK)
        return key_BSHK, self._split_heads(self.value(source_BSD))

    def __call__(
        self,
        x_BTD: jax.Array,
        keys_values: tuple[jax.Array, jax.Array],
        query_segments_BT: jax.Array,
        key_segments_BS: jax.Array,
        turns_BTK: jax.Array | None = None,
        *,
        causal: bool = False,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """Attention of x over projected keys and values; returns [B, T, D] in the compute dtype."""
        mixed_BTHK = attend(
            rotate(self._split_heads(self.query(x_BTD)), turns_BTK),
            *keys_values,
            query_segments_BT,
            key_segments_BS,
            causal=causal,
            dropout_rate=self.dropout_rate,
            dropout_key=dropout_key,
        )
        return self.out(mixed_BTHK.reshape(x_BTD.shape))

    def cached(
        self,
        x_BND: jax.Array,
        keys_values: tuple[jax.Array, jax.Array],
        mask_BNP: jax.Array,
        turns_11K: jax.Array | None = None,
    ) -> jax.Array:
        """Attention of the rows of each prompt over a cache, keys [B, H, K, P] and values [B, H, P, K]."""
        query_BNHK = rotate(self._split_heads(self.query(x_BND)), turns_11K)
        mixed_BNHK = attend_cached(query_BNHK, *keys_values, mask_BNP)
        return self.out(mixed_BNHK.reshape(x_BND.shape))
