"""Sentence permutation: whole sentences change places (BART, Lewis et al. 2019, section 2.2).

The released implementation finds sentences by one token id and so does nothing for most vocabularies;
here they are the record's `sentence_ids`.
"""

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.ordering import ascending, count_up_to
from denoise_jax.corruption.record import Corruption, Noised, Op, Symbols, take
from denoise_jax.corruption.spans import exact_share


def sentence_permutation(symbols: Symbols, *, permute_sentences: float | bool = 1.0) -> Corruption:
    """Shuffle ceil(permute_sentences x sentences) sentences among their own places, uniformly.

    True is 1 and False is 0. Which sentences take part is uniform too; tokens keep their order inside a
    sentence; a text of one sentence stays as it is. Protected tokens of the text itself (start, end,
    separators) keep their columns and the sentences flow around them; masks and other symbols that
    noise wrote belong to the sentence of their source and travel with it.

    Sentences are expected to lie side by side. Where earlier noise has mixed their tokens, what moves are
    blocks of their lengths, in order of first appearance: still a permutation of the columns.
    Raises CorruptionError for a share outside 0 ... 1.
    """
    share = exact_share(permute_sentences, "permute_sentences")

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        movable = (symbols.eligible(noised.ids) == 1) | (noised.op != Op.KEEP)
        columns = tf.cast(tf.where(movable)[:, 0], tf.int32)  # [u] columns that move
        last = tf.size(noised.targets)
        sentence = tf.gather(noised.sentence_ids, tf.minimum(tf.gather(noised.source, columns), last) - 1)
        _, _, lengths = tf.unique_with_counts(sentence)  # [s] tokens of each sentence, in order of appearance
        order = _order(tf.size(lengths), share, key)
        return take(noised, _columns_in(order, lengths, columns, movable))

    return corrupt


def _order(count: tf.Tensor, share, key: tf.Tensor) -> tf.Tensor:
    """Which sentence stands at each of `count` places after the shuffle; int32 [s], from 0."""
    shuffled = tf.math.top_k(draw(key, "sentences.order", [count]), count).indices
    if share == 1:
        return shuffled
    chosen = shuffled[: -(-count * share.numerator // share.denominator)]
    # The first few of a random order are a random subset, and stand in an order independent of it.
    return tf.tensor_scatter_nd_update(tf.range(count), ascending(chosen)[:, None], chosen)


def _columns_in(order: tf.Tensor, lengths: tf.Tensor, columns: tf.Tensor, movable: tf.Tensor) -> tf.Tensor:
    """Index [n] that puts the tokens in `columns` [u] in the order of sentences and leaves the others."""
    moved_lengths = tf.gather(lengths, order)
    ends = tf.cumsum(moved_lengths)
    shifts = tf.gather(tf.cumsum(lengths, exclusive=True), order) - (ends - moved_lengths)
    places = tf.range(tf.size(columns))
    came_from = places + tf.gather(shifts, count_up_to(ends, places))
    stay = tf.range(tf.size(movable))
    return tf.tensor_scatter_nd_update(stay, columns[:, None], tf.gather(columns, came_from))
