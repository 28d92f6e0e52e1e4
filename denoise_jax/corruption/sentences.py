"""Sentence permutation: whole sentences change places (BART, Lewis et al. 2019, section 2.2).

The released implementation finds sentences by one token id and so does nothing for most vocabularies;
here they are the record's `sentence_ids`.

Legend of shapes: n columns, c of which move; s sentences.
"""

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.rates import Rate, Schedule
from denoise_jax.corruption.record import Corruption, Noised, permute
from denoise_jax.corruption.rows import Rows, ascending, rows_of_examples, rows_of_sizes
from denoise_jax.corruption.symbols import Symbols


def sentence_permutation(symbols: Symbols, *, permute_sentences: float | Schedule = 1.0) -> Corruption:
    """Shuffle ceil(permute_sentences x sentences) sentences among their own places, uniformly.

    True is 1 and False is 0. Which sentences take part is uniform too; tokens keep their order inside a
    sentence; a text of one sentence stays as it is. What moves is told by `Symbols.movable`; masks and
    other symbols that noise wrote belong to the sentence of their source and travel with it.

    Sentences are expected to lie side by side. Where earlier noise has mixed their tokens, what moves are
    blocks of their lengths, in order of first appearance: still a permutation of the columns.
    Raises CorruptionError for a share outside 0 ... 1.
    """
    rate = Rate(permute_sentences, "permute_sentences")

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        columns, rows = noised.rows.where(symbols.movable(noised))  # [c]
        sentences, lengths = _sentences(noised, columns, rows)
        order = sentences.order(draw(key, "sentences.order", sentences))  # [s]
        if rate.share != 1:
            order = _some(order, sentences, rate.counts(sentences.sizes, noised.steps))
        moved = tf.gather(columns, _blocks(order, lengths))
        return permute(noised, tf.tensor_scatter_nd_update(tf.range(noised.rows.columns), columns[:, None], moved))

    return corrupt


def _sentences(noised: Noised, columns: tf.Tensor, rows: Rows) -> tuple[Rows, tf.Tensor]:
    """Rows of the s sentences of the given columns [c], in order of appearance, and their lengths [s]."""
    own = noised.source
    # An insertion at the end of an example has no token behind it, and belongs to the last sentence.
    last = noised.target_rows.starts + noised.target_rows.sizes
    own = tf.minimum(tf.gather(own, columns), rows.spread(last))
    sentence = tf.gather(noised.sentence_ids, own - 1)
    _, number, lengths = tf.unique_with_counts(sentence)
    example = tf.math.unsorted_segment_max(rows.of, number, tf.size(lengths))
    return rows_of_examples(example, rows.count), lengths


def _some(order: tf.Tensor, sentences: Rows, counts: tf.Tensor) -> tf.Tensor:
    """A shuffled `order` [s] made to move `counts` [e] sentences of each example only."""
    # The first few of a random order are a random subset, and stand in an order independent of it.
    chosen = tf.boolean_mask(order, sentences.place < sentences.spread(counts))
    return tf.tensor_scatter_nd_update(tf.range(sentences.columns), ascending(chosen)[:, None], chosen)


def _blocks(order: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Index [c] that puts blocks of these lengths [s], side by side, into the order [s]."""
    moved = rows_of_sizes(tf.gather(lengths, order))
    begins = tf.gather(tf.cumsum(lengths, exclusive=True), order)
    return tf.range(moved.columns) + moved.spread(begins - moved.starts)
