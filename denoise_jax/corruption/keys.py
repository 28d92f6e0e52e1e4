"""Named random streams: every draw has its own, so that changing one option leaves all other draws alone.

The key of an example is one int64. Bits come from SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable
pseudorandom number generators"): a counter incremented by an odd constant and scrambled by a bijection. It
is written out in TensorFlow's integer operations because TensorFlow's own stateless generators take one key
per call, and a batch has a key for each example.

The names of streams define the noise: renaming one changes the noise of every run, so they stay even where
the code around them has been renamed.

Shapes: E examples, N values of a row partition with E rows.
"""

import hashlib

import tensorflow as tf

from denoise_jax.corruption.row_partition import RowPartition, take

_STEP = 0x9E3779B97F4A7C15
_SCRAMBLE = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def stream(key: tf.Tensor, name: str) -> tf.Tensor:
    """Derives the keys of a named stream: int64, in the shape of `key`, int64.

    The name enters through its SHA-256, so a stream is the same in every process and version.
    """
    return substream(key, stream_constant(name))


def stream_constant(name: str) -> tf.Tensor:
    """The constant through which the name of a stream enters: uint64 scalar."""
    return tf.constant(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"), tf.uint64)


def substream(key: tf.Tensor, constant: tf.Tensor) -> tf.Tensor:
    """`stream` for a `stream_constant`, which may be a tensor of the graph."""
    return tf.bitcast(_scrambled(tf.bitcast(key, tf.uint64) + constant), tf.int64)


def draw(key: tf.Tensor, name: str, partition: RowPartition | None = None) -> tf.Tensor:
    """Draws independent int32, uniform over all 2^32 values, from the stream `name` of the keys [E].

    Returns one for each example, [E], or one for each value of `partition`, [N]. The draws of an example
    depend on its key alone, and those of a longer row start with those of a shorter one.
    """
    state = tf.bitcast(stream(key, name), tf.uint64)
    if partition is not None:
        counter = tf.cast(partition.offsets + 1, tf.uint64) * tf.constant(_STEP, tf.uint64)
        state = take(state, partition.value_rowids) + counter
    return tf.cast(
        tf.bitwise.right_shift(tf.bitcast(_scrambled(state), tf.int64), tf.constant(32, tf.int64)), tf.int32
    )


def content_keys(ids: tf.Tensor, partition: RowPartition) -> tf.Tensor:
    """A hash of each example's ids [N], to be added to its key: int64 [E].

    It is a sum of the ids, weighted by pseudorandom numbers that depend on the offset; `stream` scrambles it.
    """
    counter = tf.cast(partition.offsets + 1, tf.uint64) * tf.constant(_STEP, tf.uint64)
    weight = counter ^ tf.bitwise.right_shift(counter, tf.constant(29, tf.uint64))
    weighted = tf.cast(ids + 1, tf.int64) * tf.bitcast(weight, tf.int64)
    return tf.math.unsorted_segment_sum(weighted, partition.value_rowids, partition.nrows)


def _scrambled(bits: tf.Tensor) -> tf.Tensor:
    """A bijection of uint64 in which every input bit affects every output bit."""
    for shift, multiplier in _SCRAMBLE:
        bits = (bits ^ tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint64))) * tf.constant(
            multiplier, tf.uint64
        )
    return bits ^ tf.bitwise.right_shift(bits, tf.constant(31, tf.uint64))
