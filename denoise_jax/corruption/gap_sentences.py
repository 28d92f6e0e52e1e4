"""Gap sentences: sentences become masks, and the decoder writes them (PEGASUS, Zhang et al. 2020).

Unlike in the released code, noise depends on keys alone (the released generator has no seed), the share of
sentences is exact, and sentences are scored on the vocabulary's tokens instead of words.

Shapes: E examples, C tokens of text that noise may change, S sentences, P distinct pairs of a sentence and an
id in it.
"""

import tensorflow as tf

from denoise_jax.corruption.keys import draw
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.rates import Rate, Schedule
from denoise_jax.corruption.record import Corruption, Noised, Op, output_setter
from denoise_jax.corruption.row_partition import RowPartition, put, take
from denoise_jax.corruption.span_corruption import collapse
from denoise_jax.corruption.symbols import Symbols

STRATEGIES = ("random", "lead", "principal")


def gap_sentences(
    symbols: Symbols, *, gap_sentences_ratio: float | Schedule = 0.3, strategy: str = "random"
) -> Corruption:
    """Replaces max(1, floor(gap_sentences_ratio x sentences)) sentences by one mask each.

    The decoder writes these sentences, in the order of the text. At least one sentence is left, unless there
    is only one: then the input is a mask.

    Args:
      gap_sentences_ratio: share of the sentences; above 0.
      strategy: "random" chooses a uniformly random subset; "lead" the first sentences; "principal" those most
        similar to the rest of their text, by the F1 of unigrams, counted with repetitions (the paper's
        Ind-Orig). Ties go to the earlier sentence.

    The tokens of a sentence should be contiguous. A token inside it that is protected, or was written by
    earlier noise, stays and splits it: each run becomes a mask. Separators of sentences stay.

    Raises CorruptionError for a share out of bounds or an unknown strategy.
    """
    rate = Rate(gap_sentences_ratio, "gap_sentences_ratio")
    if rate.never:
        raise CorruptionError("gap_sentences_ratio=0 leaves the decoder nothing to write; give more than 0")
    if strategy not in STRATEGIES:
        raise CorruptionError(f"strategy={strategy!r} is unknown; choose one of {', '.join(STRATEGIES)}")

    def corrupt(noised: Noised, key: tf.Tensor) -> Noised:
        positions, partition = noised.partition.where(symbols.eligible(noised))  # [C]
        ids, source = take(noised.ids, positions), take(noised.source, positions)
        sentence, sentences = _sentences(take(noised.sentence_ids, source - 1), partition)
        most = tf.minimum(tf.maximum(sentences.row_lengths - 1, 1), sentences.row_lengths)
        wanted = tf.maximum(rate.counts(sentences.row_lengths, noised.steps, "floor"), 1)
        if strategy == "random":
            ranks = draw(key, "gap_sentences.choice", sentences)
        elif strategy == "lead":
            ranks = sentences.offsets
        else:
            ranks = -_overlap_with_rest(ids, sentence, partition, sentences)
        chosen = take(sentences.choose(tf.minimum(wanted, most), ranks), sentence)  # [C]
        run = put(tf.where(chosen, sentence + 1, 0), positions, tf.zeros_like(noised.ids))
        hidden, output_partition = partition.where(chosen)
        return collapse(noised, run, symbols.mask_token, Op.MASK)._replace(
            outputs=take(ids, hidden),
            output_source=take(source, hidden),
            output_partition=output_partition,
        )

    return output_setter(corrupt)


def _sentences(sentence_ids: tf.Tensor, partition: RowPartition) -> tuple[tf.Tensor, RowPartition]:
    """Numbers the sentences from 0 in order of appearance: that of each token [C]; and their partition."""
    found, number = tf.unique(sentence_ids)
    example = tf.math.unsorted_segment_max(partition.value_rowids, number, tf.size(found))
    return number, RowPartition.from_value_rowids(example, partition.nrows)


def _overlap_with_rest(
    ids: tf.Tensor, sentence: tf.Tensor, partition: RowPartition, sentences: RowPartition
) -> tf.Tensor:
    """Number of tokens that each sentence shares with the rest of its text, with repetitions: [S].

    With o shared tokens F1 is 2 o / (tokens of the sentence + tokens of the rest). The denominator is the
    length of the text, so o ranks the sentences of a text, free of rounding errors.
    """

    def counted(owner: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Index of each token's pair of owner and id [C], and how often each pair occurs."""
        pairs = tf.cast(owner, tf.int64) * 2**32 + tf.cast(ids, tf.int64)
        _, pair, counts = tf.unique_with_counts(pairs)
        return pair, counts

    pair, in_sentence = counted(sentence)  # [C], [P]
    pair_in_text, in_text = counted(partition.value_rowids)

    def per_pair(values: tf.Tensor) -> tf.Tensor:
        """The value [P] that all tokens [C] of a pair have."""
        return tf.math.unsorted_segment_max(values, pair, tf.size(in_sentence))

    in_rest = per_pair(take(in_text, pair_in_text)) - in_sentence
    shared = tf.minimum(in_sentence, in_rest)
    return tf.math.unsorted_segment_sum(shared, per_pair(sentence), sentences.nvals)
