"""From a trained model to text: greedy decoding, beam search and sampling with a key-value cache."""
