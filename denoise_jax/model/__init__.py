"""The encoder-decoder, from token ids to logits. No meshes, no files, no TensorFlow."""
