"""Gap sentences: whole sentences become masks, and the decoder writes them (PEGASUS, Zhang et al. 2020).

Where we differ from the released code, on purpose: noise depends on keys alone, where its generator has no
seed; the share of sentences is exact, without floating-point errors; and sentences are scored on the
vocabulary's tokens, not on words.

Legend of shapes: n columns, c of which are text that noise may touch; e examples, s sentences, p pairs of a
sentence and an id in it.
"""

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.rates import Rate, Schedule
from denoise_jax.corruption.record import Corruption, Noised, Op, writing
from denoise_jax.corruption.row_partition import RowPartition, put, take
from denoise_jax.corruption.span_corruption import collapse
from denoise_jax.corruption.symbols import Symbols

STRATEGIES = ("random", "lead", "principal")


def gap_sentences(
    symbols: Symbols, *, gap_sentences_ratio: float | Schedule = 0.3, strategy: str = "random"
) -> Corruption:
    """Hide max(1, floor(gap_sentences_ratio x sentences)) sentences, each behind one mask.

    The decoder writes the chosen sentences in the order in which they stand. One sentence stays at least,
    unless there is only one: then the input is a mask.

    Args:
      gap_sentences_ratio: share of the sentences; above 0.
      strategy: "random" takes any, all subsets alike; "lead" the first ones; "principal" those most like
        the rest of their text, by the F1 of the unigrams they share with it, counted as often as they
        occur (the paper's Ind-Orig); ties go to the sentence that stands first.

    Sentences are expected to lie side by side; a protected token inside one, or one that earlier noise
    wrote, stays where it is and cuts it: one mask for each piece. Separators of sentences stay.
    Raises CorruptionError for a share outside its bounds or an unknown strategy.
    """
    rate = Rate(gap_sentences_ratio, "gap_sentences_ratio")
    if rate.never:
        raise CorruptionError("gap_sentences_ratio=0 leaves the decoder nothing to write; give more than 0")
    if strategy not in STRATEGIES:
        raise CorruptionError(f"strategy={strategy!r} is unknown; choose one of {', '.join(STRATEGIES)}")

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        columns, partition = noised.partition.where(symbols.eligible(noised))  # [c]
        ids, source = take(noised.ids, columns), take(noised.source, columns)
        sentence, sentences = _sentences(take(noised.sentence_ids, source - 1), partition)
        most = tf.minimum(tf.maximum(sentences.row_lengths - 1, 1), sentences.row_lengths)
        wanted = tf.maximum(rate.counts(sentences.row_lengths, noised.steps, "floor"), 1)
        if strategy == "random":
            ranks = draw(key, "gap_sentences.choice", sentences)
        elif strategy == "lead":
            ranks = sentences.offsets
        else:
            ranks = -_shared_with_rest(ids, sentence, partition, sentences)
        chosen = take(sentences.choose(tf.minimum(wanted, most), ranks), sentence)  # [c]
        run = put(tf.where(chosen, sentence + 1, 0), columns, tf.zeros_like(noised.ids))
        hidden, output_partition = partition.where(chosen)
        return collapse(noised, run, symbols.mask_token, Op.MASK)._replace(
            outputs=take(ids, hidden),
            output_source=take(source, hidden),
            output_partition=output_partition,
        )

    return writing(corrupt)


def _sentences(sentence_ids: tf.Tensor, partition: RowPartition) -> tuple[tf.Tensor, RowPartition]:
    """Each column's sentence [c], numbered from 0 in order of appearance; and the rows of the sentences."""
    found, number = tf.unique(sentence_ids)
    example = tf.math.unsorted_segment_max(partition.value_rowids, number, tf.size(found))
    return number, RowPartition.from_value_rowids(example, partition.nrows)


def _shared_with_rest(
    ids: tf.Tensor, sentence: tf.Tensor, partition: RowPartition, sentences: RowPartition
) -> tf.Tensor:
    """How many tokens each sentence shares with the rest of its text, repeats counted: [s].

    The F1 of o shared tokens is 2 o / (tokens of the sentence + tokens of the rest), and that sum is the
    text's length: inside a text, o itself gives the order, without a rounding error.
    """

    def counted(owner: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Number of each column's pair of owner and id [c], and how often each pair occurs."""
        pairs = tf.cast(owner, tf.int64) * 2**32 + tf.cast(ids, tf.int64)
        _, pair, counts = tf.unique_with_counts(pairs)
        return pair, counts

    pair, in_sentence = counted(sentence)  # [c], [p]
    pair_of_text, in_text = counted(partition.value_rowids)

    def of_pair(values: tf.Tensor) -> tf.Tensor:
        """The one value [p] of each pair's columns [c]."""
        return tf.math.unsorted_segment_max(values, pair, tf.size(in_sentence))

    in_rest = of_pair(take(in_text, pair_of_text)) - in_sentence
    shared = tf.minimum(in_sentence, in_rest)
    return tf.math.unsorted_segment_sum(shared, of_pair(sentence), sentences.nvals)
