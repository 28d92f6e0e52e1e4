"""Weights of others, in and out: BART and mBART folders of Hugging Face, without torch or transformers."""
