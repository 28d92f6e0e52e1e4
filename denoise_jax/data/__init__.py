"""From text to packed, noisy, sharded batches.

Only `loader.py` knows JAX; only vocabularies (but `seqio_vocabulary.py`) work without TensorFlow.
"""
