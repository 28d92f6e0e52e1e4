"""Sentence permutation: whole sentences change places (BART, Lewis et al. 2019, section 2.2).

The released implementation finds sentences by one token id and so does nothing for most vocabularies;
here they are the record's `sentence_ids`.

Legend of shapes: n columns, c of which move; s sentences.
"""

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.rates import Rate, Schedule
from denoise_jax.corruption.record import Corruption, Noised, rearrange
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
    """Shuffle ceil(permute_sentences x sentences) sentences among their own places, uniformly.

    True is 1 and False is 0. Which sentences take part is uniform too; tokens keep their order inside a
    sentence; a text of one sentence stays as it is. What moves is told by `Symbols.movable`: protected
    symbols, such as the separators of documents, keep their columns and sentences flow over them; masks and
    other symbols that noise wrote belong to the sentence of their source and travel with it.

    Where earlier noise has mixed the tokens of sentences, each run of tokens of one sentence moves by itself.
    Raises CorruptionError for a share outside 0 ... 1.
    """
    rate = Rate(permute_sentences, "permute_sentences")

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        columns, partition = noised.partition.where(symbols.movable(noised))  # [c]
        sentences, lengths = _sentences(noised, columns, partition)
        order = sentences.argsort(draw(key, "sentences.order", sentences))  # [s]
        if rate.share != 1:
            order = _some(order, sentences, rate.counts(sentences.row_lengths, noised.steps))
        return rearrange(noised, columns, take(columns, block_permutation(order, lengths)))

    return corrupt


def _sentences(noised: Noised, columns: tf.Tensor, partition: RowPartition) -> tuple[RowPartition, tf.Tensor]:
    """Rows of the s sentences of the given columns [c], in their order, and their lengths [s]."""
    # An insertion at the end of an example has no token behind it, and belongs to the last sentence.
    last = partition.broadcast(noised.target_partition.row_starts + noised.target_partition.row_lengths)
    sentence = take(noised.sentence_ids, tf.minimum(take(noised.source, columns), last) - 1)
    starts, sentences = partition.where(changes(sentence))
    return sentences, distances(starts, partition.nvals)


def _some(order: tf.Tensor, sentences: RowPartition, counts: tf.Tensor) -> tf.Tensor:
    """A shuffled `order` [s] made to move `counts` [e] sentences of each example only."""
    # The first few of a random order are a random subset, and stand in an order independent of it.
    chosen = tf.boolean_mask(order, sentences.offsets < sentences.broadcast(counts))
    return put(chosen, sort(chosen), tf.range(sentences.nvals))
