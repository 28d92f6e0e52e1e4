"""From text to packed, noised, sharded batches. JAX is imported only in loader.py."""
