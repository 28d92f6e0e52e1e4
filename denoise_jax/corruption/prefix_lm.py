"""Prefix language modelling: the encoder reads the beginning of a text and the decoder writes the rest.

After Raffel et al. 2020, section 3.2 ("prefix LM"), and UL2's S-denoiser (Tay et al. 2022). For a text of one
token the released code of T5 has an empty input; here the token is the input.

Shapes: E examples.
"""

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import MAX_TOKENS, check_number
from denoise_jax.corruption.record import Corruption, Noised, Op, delete, output_setter
from denoise_jax.corruption.row_partition import take
from denoise_jax.corruption.symbols import Symbols


def prefix_lm(symbols: Symbols, *, min_prefix: int = 1) -> Corruption:
    """Cuts each text in two at a uniformly random position that leaves tokens on both sides.

    The input is the prefix. The tokens after it, special tokens included, are DELETED from the input, and the
    decoder writes them. What earlier noise wrote after the cut (masks, insertions, special tokens) stays in
    the input, after the prefix, since without a mask nothing would record which tokens it hides.

    Args:
      min_prefix: least number of tokens in the prefix, 1 or more. Tokens before all text that noise may
        change, such as a start symbol, belong to the prefix but are not counted.

    A text that is too short to be cut is all prefix, and its decoder writes nothing.

    Raises CorruptionError if `min_prefix` is out of bounds.
    """
    must = f"be a whole number of tokens, 1 to {MAX_TOKENS}"
    min_prefix = check_number("min_prefix", min_prefix, 1, MAX_TOKENS, must=must, whole=True)

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        partition = noised.partition
        before_text = partition.cumsum(tf.cast(symbols.eligible(noised), tf.int32)) == 0
        least = partition.sum(before_text) + min_prefix  # [E]
        choices = tf.maximum(partition.row_lengths - least, 1)  # if too short, the cut is past the end
        cut = least + draw(key, "prefix.cut") % choices
        rest = (partition.offsets >= partition.broadcast(cut)) & (noised.op == Op.KEEP)
        positions, output_partition = partition.where(rest)
        return delete(noised, rest)._replace(
            outputs=take(noised.ids, positions),
            output_source=take(noised.source, positions),
            output_partition=output_partition,
        )

    return output_setter(corrupt)
