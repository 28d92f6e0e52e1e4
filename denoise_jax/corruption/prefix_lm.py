"""Prefix language modelling: the encoder reads the beginning of a text, the decoder writes the rest.

After Raffel et al. 2020, section 3.2 ("prefix LM"), and UL2's S-denoiser (Tay et al. 2022). T5's released
code gives a text of one token an empty input; here that token is the input.

Legend of shapes: n columns, e examples.
"""

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import MAX_TOKENS, check_number
from denoise_jax.corruption.record import Corruption, Noised, Op, delete, writing
from denoise_jax.corruption.row_partition import take
from denoise_jax.corruption.symbols import Symbols


def prefix_lm(symbols: Symbols, *, min_prefix: int = 1) -> Corruption:
    """Cut each text in two, every cut that leaves something on both sides alike.

    The prefix is the input; the tokens behind it are what the decoder writes, protected ones among them,
    and are DELETED: nothing in the input tells of them. Columns count as they stand; what earlier noise
    wrote behind the cut (masks, insertions, symbols) stays, behind the prefix, since a mask's account of
    what it hides would be lost with it.

    Args:
      min_prefix: least number of columns in the prefix, 1 or more. Columns that stand before all text which
        noise may touch, such as a start symbol, are in the prefix and do not count.

    A text too short to be cut is all prefix, and its decoder writes nothing.
    Raises CorruptionError for a `min_prefix` outside its bounds.
    """
    must = f"be a whole number of tokens, 1 to {MAX_TOKENS}"
    min_prefix = check_number("min_prefix", min_prefix, 1, MAX_TOKENS, must=must, whole=True)

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        partition = noised.partition
        before_text = partition.cumsum(tf.cast(symbols.eligible(noised), tf.int32)) == 0
        least = partition.sum(tf.cast(before_text, tf.int32)) + min_prefix  # [e]
        cut = least + draw(key, "prefix.cut") % tf.maximum(
            partition.row_lengths - least, 1
        )  # past a short text's end
        rest = (partition.offsets >= partition.broadcast(cut)) & (noised.op == Op.KEEP)
        columns, output_partition = partition.where(rest)
        return delete(noised, rest)._replace(
            outputs=take(noised.ids, columns),
            output_source=take(noised.source, columns),
            output_partition=output_partition,
        )

    return writing(corrupt)
