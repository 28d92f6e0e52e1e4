"""Sorting and searching rows of integers, in as few graph nodes as TensorFlow allows.

A node costs about as much as its work on a few hundred tokens, and the public functions of these names
spend five to ten nodes on ranks and dtypes that do not occur here.
"""

import tensorflow as tf


def ascending(values: tf.Tensor) -> tf.Tensor:
    """The values sorted; int32 [k], none of them -2^31."""
    return -tf.math.top_k(-values, tf.size(values)).values


def count_up_to(row: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """For each value [v] how many entries of the ascending row [k] are not above it; int32 [v]."""
    return tf.raw_ops.UpperBound(sorted_inputs=row[None], values=values[None])[0]
