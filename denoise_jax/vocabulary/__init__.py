"""Vocabularies: SentencePiece models and Hugging Face tokenizers. TensorFlow only in seqio.py."""
