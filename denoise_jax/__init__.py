"""Denoising pretraining of encoder-decoders: SeqIO noise, Flax models, one sharded JAX step."""

__version__ = "0.1.0"
