"""Noise on token ids with provenance: TensorFlow graph functions on batches of examples.

    symbols = Symbols(mask_token=4, vocab_size=32_000, protected=(0, 1, 2, 3))
    corrupt = chain([sentence_permutation(symbols), text_infilling(symbols, mask_prob=0.3)])
    noised = corrupt(clean(texts, sentence_ids), keys)     # texts ragged [E, None], keys int64 [E]
    split(noised)["ids"]                                   # ragged [E, None]

A corruption is built once, which checks its options, and maps (Noised, keys) to Noised. It is stateless:
eager calls, tf.function and tf.data with any parallelism give identical results, and the noise of an example
depends only on its own key and text. Only TensorFlow and NumPy are imported.

`record` holds what corruptions read and return, `symbols` what they need to know about a vocabulary;
`row_partition` divides flattened batches into examples, `keys` names random streams, `rates` are shares and
schedules, `span_lengths` distributions, `units` tokens or words. Each kind of noise has its own file;
`compose` combines them, `presets` names the well-known ones, and `provenance` derives the kind of each target
token.
"""

from denoise_jax.corruption.compose import chain, mixture
from denoise_jax.corruption.deletion import token_deletion
from denoise_jax.corruption.fairseq import bart_denoising
from denoise_jax.corruption.fragments import masked_fragment
from denoise_jax.corruption.gap_sentences import gap_sentences
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.insertion import token_insertion
from denoise_jax.corruption.masking import token_masking, token_replacement
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.prefix_lm import prefix_lm
from denoise_jax.corruption.presets import PRESETS, build
from denoise_jax.corruption.rates import Linear
from denoise_jax.corruption.record import Corruption, Noised, Op, TargetNoise, clean, replay, split
from denoise_jax.corruption.rotation import document_rotation
from denoise_jax.corruption.sentence_permutation import sentence_permutation
from denoise_jax.corruption.shuffling import token_shuffling
from denoise_jax.corruption.span_corruption import span_corruption
from denoise_jax.corruption.symbols import Symbols

__all__ = [
    "PRESETS",
    "Corruption",
    "CorruptionError",
    "Linear",
    "Noised",
    "Op",
    "Symbols",
    "TargetNoise",
    "bart_denoising",
    "build",
    "chain",
    "clean",
    "document_rotation",
    "gap_sentences",
    "masked_fragment",
    "mixture",
    "prefix_lm",
    "replay",
    "sentence_permutation",
    "span_corruption",
    "split",
    "text_infilling",
    "token_deletion",
    "token_insertion",
    "token_masking",
    "token_replacement",
    "token_shuffling",
]
