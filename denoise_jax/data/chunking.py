"""SeqIO preprocessors: text → sentences → tokens → chunks of bounded length."""

import tensorflow as tf

from denoise_jax.data.grouping import greedy_groups
from denoise_jax.data.sentence_splitting import split_sentences
from denoise_jax.data.special_tokens import closes_sentences, num_opening_ids
from denoise_jax.vocabulary.base import EOS_ID
from denoise_jax.vocabulary.seqio import SeqioVocabulary
from denoise_jax.vocabulary.tokenizers import TokenizersVocabulary


def tokenize_sentences(
    dataset: tf.data.Dataset, output_features, *, language: str | None = None
) -> tf.data.Dataset:
    """`text` (scalar string) → `targets` [n] and `sentence_ids` [n], from 1; blank documents are dropped.

    The ids are those of the sentences joined by single spaces. With a language that closes texts, as in
    mBART, every sentence ends in </s>.
    """
    vocabulary = output_features["targets"].vocabulary
    close_sentences = closes_sentences(vocabulary, language)
    # SentencePiece itself puts a space in front of every sentence.
    add_spaces = isinstance(vocabulary, SeqioVocabulary) and isinstance(
        vocabulary.vocabulary, TokenizersVocabulary
    )

    def tokenize(example):
        sentences = split_sentences(example["text"])
        if add_spaces:
            spaces = tf.fill(tf.shape(sentences), " ")
            sentences = tf.strings.join([tf.concat([[""], spaces], 0)[:-1], sentences])
        tokens = vocabulary.encode_tf(sentences)
        if close_sentences:
            tokens = tf.concat([tokens, tf.fill([tokens.nrows(), 1], EOS_ID)], 1)
        return {
            "targets": tf.cast(tokens.flat_values, tf.int32),
            "sentence_ids": tf.cast(tokens.value_rowids(), tf.int32) + 1,
        }

    dataset = dataset.map(tokenize, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.filter(lambda example: tf.size(example["targets"]) > 0)


def chunk_documents(
    dataset: tf.data.Dataset, sequence_length=None, output_features=None, *, language: str | None = None
) -> tf.data.Dataset:
    """Splits documents at sentence ends into chunks of at most `sequence_length["targets"]` tokens.

    The length includes the special tokens added later: </s>, and <s> or the language if they open texts. A
    sentence longer than a chunk is split where the chunk is full; no token is lost. `sentence_ids` count from
    1 in each chunk. Without `sequence_length` documents are left whole.
    """
    if sequence_length is None:
        return dataset
    opening = num_opening_ids(output_features["targets"].vocabulary, language) if output_features else 0
    limit = sequence_length["targets"] - 1 - opening

    def split(example):
        chunk = _chunk_of_token(example["sentence_ids"], limit)
        first_sentence = tf.gather(example["sentence_ids"], tf.searchsorted(chunk, chunk))
        features = {**example, "sentence_ids": example["sentence_ids"] - first_sentence + 1}
        return {
            name: tf.RaggedTensor.from_value_rowids(values, chunk, validate=False)
            for name, values in features.items()
        }

    return dataset.map(split, num_parallel_calls=tf.data.AUTOTUNE).unbatch()


def _chunk_of_token(sentence_ids: tf.Tensor, limit: int) -> tf.Tensor:
    """0-based chunk of each token [n]: sentences are taken greedily while they fit into `limit` tokens."""
    offset = tf.range(tf.size(sentence_ids)) - tf.searchsorted(sentence_ids, sentence_ids)
    # A unit is a sentence, or `limit` tokens of a longer sentence.
    unit = tf.cumsum(tf.cast(offset % limit == 0, tf.int32)) - 1
    lengths = tf.math.bincount(unit)
    return tf.gather(greedy_groups([lengths], [limit]), unit)
