"""Named random streams: each draw has its own, so that changing one option leaves the others' draws alone.

An example's key is one int64. Bits come from SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable
pseudorandom number generators"): a counter stepped by an odd constant, scrambled by a bijection. It is
spelt out in TensorFlow's integer operations because TensorFlow's own stateless generators take one key a
call, and a window has as many keys as examples.
"""

import hashlib

import tensorflow as tf

from denoise_jax.corruption.row_partition import RowPartition, take

_STEP = 0x9E3779B97F4A7C15
_SCRAMBLE = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def stream(key: tf.Tensor, name: str) -> tf.Tensor:
    """The keys of a named stream: int64 of the shape of `key`, int64.

    The name's constant is taken from its SHA-256 when the graph is built, so it is the same in every
    process and version.
    """
    constant = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return tf.bitcast(_scrambled(tf.bitcast(key, tf.uint64) + tf.constant(constant, tf.uint64)), tf.int64)


def draw(key: tf.Tensor, name: str, partition: RowPartition | None = None) -> tf.Tensor:
    """Independent int32, uniform over all 2^32 values, from the stream `name` of each example's key [e].

    One for each example [e], or one for each column of `rows` [n]. An example's draws depend on nothing
    but its key, and a longer row begins with the draws of a shorter one.
    """
    state = tf.bitcast(stream(key, name), tf.uint64)
    if partition is not None:
        counter = tf.cast(partition.offsets + 1, tf.uint64) * tf.constant(_STEP, tf.uint64)
        state = take(state, partition.value_rowids) + counter
    return tf.cast(
        tf.bitwise.right_shift(tf.bitcast(_scrambled(state), tf.int64), tf.constant(32, tf.int64)), tf.int32
    )


def content_keys(ids: tf.Tensor, partition: RowPartition) -> tf.Tensor:
    """A number that tells each example's ids [n] from those of others, to add to its key: int64 [e].

    The ids' sum, with a weight for each place that looks random; the streams scramble it.
    """
    counter = tf.cast(partition.offsets + 1, tf.uint64) * tf.constant(_STEP, tf.uint64)
    weight = counter ^ tf.bitwise.right_shift(counter, tf.constant(29, tf.uint64))
    weighted = tf.cast(ids + 1, tf.int64) * tf.bitcast(weight, tf.int64)
    return tf.math.unsorted_segment_sum(weighted, partition.value_rowids, partition.nrows)


def _scrambled(bits: tf.Tensor) -> tf.Tensor:
    """A bijection of uint64 in which each bit of the argument sways every bit of the result."""
    for shift, multiplier in _SCRAMBLE:
        bits = (bits ^ tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint64))) * tf.constant(
            multiplier, tf.uint64
        )
    return bits ^ tf.bitwise.right_shift(bits, tf.constant(31, tf.uint64))
