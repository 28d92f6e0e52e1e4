"""Named random streams: each draw has its own, so that changing one option leaves the others' draws alone.

A key is a stateless seed: two integers. Philox scrambles it at every draw (Salmon et al. 2011, "Parallel
random numbers: as easy as 1, 2, 3"), so keys need to be different, not random.
"""

import hashlib

import tensorflow as tf

# Odd, so that multiplying by it loses nothing; it makes folding a then b differ from b then a.
_MULTIPLIER = 0x5851F42D4C957F2D
_PHILOX = 1  # the `alg` number of TensorFlow's stateless ops


def stream(key: tf.Tensor, name: str) -> tf.Tensor:
    """The key of a named stream: int64 [2], from a key of shape [2], int32 or int64.

    The name's constant is taken from its SHA-256 when the graph is built, so it is the same in every
    process and version; the fold wraps around at 64 bits. It costs two tiny ops where
    tf.random.fold_in runs a generator.
    """
    digest = hashlib.sha256(name.encode()).digest()
    constant = [int.from_bytes(digest[i : i + 8], "little", signed=True) for i in (0, 8)]
    return tf.cast(key, tf.int64) * _MULTIPLIER + tf.constant(constant, tf.int64)


def draw(key: tf.Tensor, name: str, shape: tf.Tensor) -> tf.Tensor:
    """Independent int32 of the given shape, uniform over all 2^32 values, from the stream `name` of `key`.

    A longer draw begins with the shorter one. The raw ops are named here since the public wrapper spells
    their scrambling out in some forty ops unless it may choose an algorithm by device.
    """
    philox_key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=stream(key, name))
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=shape, key=philox_key, counter=counter, alg=_PHILOX, dtype=tf.int32
    )
