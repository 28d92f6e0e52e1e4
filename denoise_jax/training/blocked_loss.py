"""The loss of a large vocabulary, with the logits of a part of each row at a time (`loss.blocks`).

B rows, T target positions, D width, V padded vocabulary.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from denoise_jax.model.attention import Placement


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 4, 5))
def sum_over_blocks(
    sums: Callable,
    matrix: jax.Array,
    hidden_BTD: jax.Array,
    targets: Mapping[str, jax.Array],
    blocks: int,
    placement: Placement,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """`sums(matrix, hidden_BTD, targets)` over T / blocks positions at a time, added up.

    Nothing is computed twice: the gradient of a block is computed with its sums, before the logits of the
    next block. Each device adds up its own gradient of the matrix in float32, and devices exchange it after
    the last block, in the dtype of the hidden states as for other matrices.

    Args:
      sums: from the output matrix, hidden states and targets of some positions to (objective, sums for the
        log), all scalars. It closes over no arrays. The objective alone has a gradient.
      matrix: the output matrix, float32 [V, D] or [D, V].
      hidden_BTD: the decoder's output.
      targets: arrays [B, T].
      blocks: a divisor of T.
    """
    return _with_gradients(sums, matrix, hidden_BTD, targets, blocks, placement)[0]


def _with_gradients(sums, matrix, hidden_BTD, targets, blocks, placement):
    gradient = jax.value_and_grad(sums, argnums=(0, 1), has_aux=True)

    def add_block(matrix, total, block):
        result, (of_matrix, of_hidden) = gradient(matrix, *block)
        return jax.tree.map(jnp.add, total, (result, of_matrix)), of_hidden

    def of_rows(matrix, rows):
        parts = jax.tree.map(lambda x_BT: _split(x_BT, blocks), rows)
        zero = jax.tree.map(
            jnp.zeros_like, (jax.eval_shape(sums, matrix, *jax.tree.map(lambda x: x[0], parts)), matrix)
        )
        (result, of_matrix), of_hidden = jax.lax.scan(functools.partial(add_block, matrix), zero, parts)
        return (result, of_matrix.astype(hidden_BTD.dtype)), of_hidden.swapaxes(0, 1).reshape(rows[0].shape)

    (result, of_matrix), of_hidden_BTD = placement.map_rows(of_rows, matrix, (hidden_BTD, targets))
    return result, (of_matrix, of_hidden_BTD)


def _scale_gradients(sums, blocks, placement, gradients, cotangents):
    of_objective, _ = cotangents
    of_matrix, of_hidden_BTD = (g * of_objective.astype(g.dtype) for g in gradients)
    return of_matrix.astype(jnp.float32), of_hidden_BTD, None


sum_over_blocks.defvjp(_with_gradients, _scale_gradients)


def _split(x_BT: jax.Array, blocks: int) -> jax.Array:
    """[B, T, ...] → [blocks, B, T / blocks, ...]."""
    rows, length = x_BT.shape[:2]
    return x_BT.reshape(rows, blocks, length // blocks, *x_BT.shape[2:]).swapaxes(0, 1)
