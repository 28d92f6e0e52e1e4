"""The encoder-decoder: attention, layers, the transformer, decoding with a cache. No mesh, no files, no TensorFlow."""
