"""From text to packed, noisy, sharded batches.

Only `loader.py` knows JAX; only `vocabulary.py` works without TensorFlow.
"""
