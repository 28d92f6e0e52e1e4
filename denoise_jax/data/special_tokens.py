"""Adds the tokens that open and close a text, such as <s> and </s>, to fine-tuning pairs and noised examples.

Legend of shapes: e examples of a batch, n corrupted tokens, m tokens of clean text, t target tokens.
"""

import functools
from collections.abc import Sequence

import seqio
import tensorflow as tf

from denoise_jax.corruption import record
from denoise_jax.corruption.provenance import output_kinds
from denoise_jax.corruption.row_partition import RowPartition, take
from denoise_jax.errors import DataError
from denoise_jax.target_kinds import TargetKind
from denoise_jax.vocabulary.base import SpecialTokens
from denoise_jax.vocabulary.seqio import SeqioVocabulary, is_ours, of_seqio


def num_opening_ids(vocabulary: seqio.Vocabulary, language: str | None) -> int:
    """Number of ids that open a text in this language; 0 except for tokenizers from Hugging Face."""
    opening = vocabulary.vocabulary.opening_ids if isinstance(vocabulary, SeqioVocabulary) else ()
    return len(opening) + (language is not None and _language_opens(vocabulary))


def closes_sentences(vocabulary: seqio.Vocabulary, language: str | None) -> bool:
    """Whether each sentence ends in </s>, as in mBART's denoising. In mBART-50 </s> only ends the text."""
    return language is not None and not _language_opens(vocabulary)


def _language_opens(vocabulary: seqio.Vocabulary) -> bool:
    return isinstance(vocabulary, SeqioVocabulary) and vocabulary.vocabulary.language_opens


def special_tokens_of(vocabulary: seqio.Vocabulary, language: str | None, *, field: str) -> SpecialTokens:
    """Ids added around the texts of a feature; see `Vocabulary.special_tokens`.

    Raises:
      DataError: the vocabulary has no such language, or no end of text. The message names `field`.
    """
    # A plain SeqIO vocabulary may have reserved ids that ours do not accept; it is not loaded without need.
    if isinstance(vocabulary, SeqioVocabulary) or (language is not None and is_ours(vocabulary)):
        return of_seqio(vocabulary).special_tokens(language, field=field)
    kind = type(vocabulary).__name__
    if language is not None:
        raise DataError(
            f"{field}={language!r} needs a SentencePiece vocabulary or a tokenizer, but this is a {kind}"
        )
    if vocabulary.eos_id is None:
        raise DataError(f"{field}: a {kind} has no eos_id to close texts with")
    return SpecialTokens((), (vocabulary.eos_id,))


def add_special_tokens(
    dataset: tf.data.Dataset,
    output_features,
    sequence_length=None,
    *,
    source_language: str | None = None,
    target_language: str | None = None,
) -> tf.data.Dataset:
    """Preprocessor for fine-tuning pairs: opens and closes `inputs` and `targets`, int32 [n].

    Texts are truncated first, so that everything fits into `sequence_length`. Like
    `seqio.preprocessors.append_eos_after_trim`, which it replaces, it is the last preprocessor of a task.
    Features with another kind of vocabulary, such as class labels, are returned unchanged.

    With languages, as in mBART (Liu et al. 2020), the language token follows </s>, and a feature
    `decoder_start`, int32 [1], holds the language with which the decoder starts: the target's or, if the
    targets are classes, that of the inputs. In an imported mBART-50 the language opens both texts instead,
    and the decoder starts as always. Set them with `functools.partial`.

    Raises:
      DataError: a language is not a control symbol of the vocabulary.
    """
    languages = {"inputs": ("source", source_language), "targets": ("target", target_language)}
    special = {}
    for name, (side, language) in languages.items():
        if name in dataset.element_spec and is_ours(vocabulary := output_features[name].vocabulary):
            field = f"add_special_tokens: {side}_language"
            special[name] = special_tokens_of(vocabulary, language, field=field)

    read = special.get("targets") or special.get("inputs")  # a classifier's decoder reads the inputs

    def add(example):
        added = {}
        for name, tokens in special.items():
            ids = tf.cast(example[name], tf.int32)
            if sequence_length is not None and sequence_length.get(name) is not None:
                ids = ids[: sequence_length[name] - tokens.size]
            added[name] = tf.concat([list(tokens.opening), ids, list(tokens.closing)], 0)
        if read is not None and read.start is not None:
            added["decoder_start"] = tf.constant([read.start], tf.int32)
        return {**example, **added}

    return dataset.map(add, num_parallel_calls=tf.data.AUTOTUNE)


def noised_features(
    noised: record.Noised, limits: dict[str, int], special: SpecialTokens
) -> dict[str, tf.RaggedTensor]:
    """Features of each noised example, ragged, with special tokens, which count as visible text.

    Args:
      limits: maximum length of `inputs` and `targets` without special tokens; absent: no maximum.
      special: ids to add; exactly one closes a text.
    """
    if "inputs" in limits:
        noised = _truncated(noised, limits["inputs"])
    (closing,) = special.closing
    opened = len(special.opening)
    opening_sources = tuple(range(1, opened + 1))
    closing_source = noised.target_partition.row_lengths + 1 + opened
    surround = functools.partial(_surround, noised.partition)

    def own_source(source: tf.Tensor, partition: RowPartition) -> tf.Tensor:
        """Source positions within each example, counting its opening tokens."""
        source = source - partition.broadcast(noised.target_partition.row_starts)
        return source + opened if opened else source

    sources = own_source(noised.source, noised.partition)
    features = {
        "inputs": surround(noised.ids, special.opening, closing),
        "inputs_source": surround(sources, opening_sources, closing_source),
        "inputs_span": surround(noised.span, [2] * opened, 2),
        "inputs_op": surround(noised.op, [int(record.Op.KEEP)] * opened, int(record.Op.KEEP)),
    }
    partition = noised.output_partition
    outputs = noised.outputs, own_source(noised.output_source, partition), output_kinds(noised)
    if "targets" in limits:
        outputs, partition = _cut(outputs, partition, limits["targets"])
    visible = int(TargetKind.IN_PLACE)
    ids, sources, kinds = outputs
    return features | {
        "targets": _surround(partition, ids, special.opening, closing),
        "targets_source": _surround(partition, sources, opening_sources, closing_source),
        "targets_kind": _surround(partition, kinds, [visible] * opened, visible),
    }


def clean_text_features(noised: record.Noised, special: SpecialTokens) -> dict[str, tf.RaggedTensor]:
    """`text` and `text_noise`, ragged [e, m]: the clean text, with its opening tokens."""
    columns = record.split(noised)
    text, noise = columns["targets"], columns["target_noise"]
    if special.opening:
        one = tf.ones([text.nrows(), 1], tf.int32)
        text = tf.concat([one * [special.opening], text], 1)
        visible = [int(record.TargetNoise.VISIBLE)] * len(special.opening)
        noise = tf.concat([one * [visible], noise], 1)
    return {"text": text, "text_noise": noise}


def _truncated(noised: record.Noised, limit: int) -> record.Noised:
    """`record.truncate`, at no cost if no example of the batch is too long."""

    def changed(noised: record.Noised):
        return noised[:5], noised.target_noise

    columns, target_noise = tf.cond(
        tf.reduce_max(noised.partition.row_lengths) > limit,
        lambda: changed(record.truncate(noised, limit)),
        lambda: changed(noised),
    )
    return record.Noised(*columns, *noised[5:])._replace(target_noise=target_noise)


def _surround(
    partition: RowPartition, values: tf.Tensor, first: Sequence[int], last: tf.Tensor | int
) -> tf.RaggedTensor:
    """Adds `first` before and `last` (scalar or [e]) after the values [n] of each example."""
    added = len(first) + 1
    last = last + tf.zeros_like(partition.row_lengths)
    examples = tf.range(partition.nrows)
    shift_of_value, shift_of_example = partition.value_rowids, examples  # special tokens of earlier examples
    if first:  # costs nothing otherwise
        shift_of_value = partition.value_rowids * added + len(first)
        shift_of_example = examples * added + len(first)
    starts = partition.row_starts + shift_of_example
    indices = [tf.range(partition.nvals) + shift_of_value, starts + partition.row_lengths]
    parts = [values, last]
    for distance, value in enumerate(reversed(first), 1):
        indices.append(starts - distance)
        parts.append(tf.fill([partition.nrows], value))
    return tf.RaggedTensor.from_row_lengths(
        tf.dynamic_stitch(indices, parts), partition.row_lengths + added, validate=False
    )


def _cut(
    columns: tuple[tf.Tensor, ...], partition: RowPartition, limit: int
) -> tuple[tuple[tf.Tensor, ...], RowPartition]:
    """The first `limit` values of each example, at no cost if no example has more."""

    def cut():
        index, kept = partition.where(partition.offsets < limit)
        return tuple(take(column, index) for column in columns), kept

    return tf.cond(tf.reduce_max(partition.row_lengths) > limit, cut, lambda: (columns, partition))
