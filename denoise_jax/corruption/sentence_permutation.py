"""Sentence permutation: the sentences of a text are shuffled (BART, Lewis et al. 2019, section 2.2).

The released code finds sentences by one token id and does nothing for most vocabularies; here they are the
record's `sentence_ids`.

Shapes: E examples, C movable tokens, S sentences.
"""

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.rates import Rate, Schedule
from denoise_jax.corruption.record import Corruption, Noised, rearrange, sentence_of
from denoise_jax.corruption.row_partition import (
    RowPartition,
    block_permutation,
    changes,
    distances,
    put,
    sort,
    take,
)
from denoise_jax.corruption.symbols import Symbols


def sentence_permutation(symbols: Symbols, *, permute_sentences: float | Schedule = 1.0) -> Corruption:
    """Shuffles ceil(permute_sentences x sentences) sentences of each text uniformly among their positions.

    Args:
      permute_sentences: share of the sentences that take part, a uniformly random subset. True is 1 and False
        is 0.

    Tokens keep their order within a sentence. `Symbols.movable` says what moves: protected tokens, such as
    separators of documents, stay at their positions, and sentences are reordered around them; masks and other
    tokens written by noise move with the sentence of their source. Where earlier noise has mixed sentences,
    each run of tokens from one sentence counts as a sentence.

    Raises CorruptionError for a share outside 0 ... 1.
    """
    rate = Rate(permute_sentences, "permute_sentences")

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        positions, partition = noised.partition.where(symbols.movable(noised))  # [C]
        starts, sentences = partition.where(changes(sentence_of(noised, positions, partition)))  # [S]
        order = sentences.argsort(draw(key, "sentences.order", sentences))
        if rate.share != 1:
            order = _partial(order, sentences, rate.counts(sentences.row_lengths, noised.steps))
        lengths = distances(starts, partition.nvals)
        return rearrange(noised, positions, take(positions, block_permutation(order, lengths)))

    return corrupt


def _partial(order: tf.Tensor, sentences: RowPartition, counts: tf.Tensor) -> tf.Tensor:
    """Restricts a random `order` [S] of all sentences to counts [E] sentences of each example."""
    # The first few of a random order are a random subset, in an order that is independent of which they are.
    chosen = tf.boolean_mask(order, sentences.offsets < sentences.broadcast(counts))
    return put(chosen, sort(chosen), tf.range(sentences.nvals))
