"""The encoder-decoder: attention, layers, stacks, decoding with a cache. No mesh, no files, no TensorFlow."""
