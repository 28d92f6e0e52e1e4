"""What stands around a text on both sides: the tokens that open it, the token that closes it."""

import dataclasses
import functools
from collections.abc import Sequence

import seqio
import tensorflow as tf

from denoise_jax.corruption import record
from denoise_jax.corruption.provenance import output_kinds
from denoise_jax.corruption.row_partition import RowPartition, take
from denoise_jax.errors import DataError
from denoise_jax.target_kinds import TargetKind
from denoise_jax.vocabulary.base import EOS_ID
from denoise_jax.vocabulary.seqio import SeqioTokenizers, is_ours, of_seqio


@dataclasses.dataclass(frozen=True)
class Frame:
    """Ids around a text: `opening` before it, `closing` behind."""

    opening: tuple[int, ...]
    closing: int

    @property
    def size(self) -> int:
        """Tokens that it takes of a row."""
        return len(self.opening) + 1


def opening_of(vocabulary: seqio.Vocabulary) -> tuple[int, ...]:
    """Ids that stand before every text; () but for tokenizers that came with the weights of others."""
    return vocabulary.own.opening_ids if isinstance(vocabulary, SeqioTokenizers) else ()


def frame_of(task: str, vocabulary: seqio.Vocabulary, language: str | None) -> Frame:
    """What stands around the texts of `task`, which end in </s>, or in the token of their language.

    Raises:
      DataError: the vocabulary has no such token.
    """
    if language is not None:
        return Frame(opening_of(vocabulary), _language_id(f"task {task!r}: language", vocabulary, language))
    if vocabulary.eos_id is None:
        raise DataError(f"task {task!r}: its {type(vocabulary).__name__} has no eos_id to end texts with")
    return Frame(opening_of(vocabulary), vocabulary.eos_id)


def _language_id(what: str, vocabulary: seqio.Vocabulary, language: str) -> int:
    """Id of the control symbol `language`; DataError, which begins with `what`, where there is none."""
    if not is_ours(vocabulary):
        raise DataError(
            f"{what}={language!r} is a symbol of SentencePiece vocabularies and tokenizers, and this is a "
            f"{type(vocabulary).__name__}"
        )
    own = of_seqio(vocabulary)
    index = own.symbol_id(language)
    if index is None:
        raise DataError(
            f"{what}={language!r} is no control symbol of vocabulary {own.path}; "
            "train one with `denoise-jax vocab --control-symbols`"
        )
    return index


def frame_pairs(
    dataset: tf.data.Dataset,
    output_features,
    sequence_length=None,
    *,
    source_language: str | None = None,
    target_language: str | None = None,
) -> tf.data.Dataset:
    """Preprocessor for pairs: puts around `inputs` and `targets`, int32 [n], what the vocabulary says.

    That is </s> behind them, and before them what opens texts; both are cut before, so that all fits into
    `sequence_length`. It takes the place of `seqio.preprocessors.append_eos_after_trim`, and like that
    stands last. Features with a vocabulary that is no SentencePiece model and no tokenizer, such as class
    labels, stay as they are.

    With languages, as in mBART (Liu et al. 2020), the token of the language comes behind </s>, and a feature
    `decoder_start`, int32 [1], has the decoder start from that of the target. Name them with
    `functools.partial`; each is a control symbol of the vocabulary, or DataError.
    """
    languages = {"inputs": source_language, "targets": target_language}
    frames = {}
    for name, language in languages.items():
        if name not in dataset.element_spec or not is_ours(vocabulary := output_features[name].vocabulary):
            continue
        closing = [EOS_ID]
        if language is not None:
            field = "source_language" if name == "inputs" else "target_language"
            closing.append(_language_id(f"frame_pairs: {field}", vocabulary, language))
        frames[name] = list(opening_of(vocabulary)), closing

    def put(example):
        around = {}
        for name, (opening, closing) in frames.items():
            ids = tf.cast(example[name], tf.int32)
            if sequence_length is not None and sequence_length.get(name) is not None:
                ids = ids[: sequence_length[name] - len(opening) - len(closing)]
            around[name] = tf.concat([opening, ids, closing], 0)
        if target_language is not None and "targets" in frames:
            around["decoder_start"] = tf.constant(frames["targets"][1][-1:], tf.int32)
        return {**example, **around}

    return dataset.map(put, num_parallel_calls=tf.data.AUTOTUNE)


def framed(noised: record.Noised, limits: dict[str, int], frame: Frame) -> dict[str, tf.RaggedTensor]:
    """Features of each example, ragged; the tokens of the frame stand for themselves, and count as text.

    Args:
      limits: longest `inputs` and `targets` without their frame, where there is a limit.
    """
    if "inputs" in limits:
        noised = _truncated(noised, limits["inputs"])
    opened = len(frame.opening)
    places = tuple(range(1, opened + 1))
    end = noised.target_partition.row_lengths + 1 + opened
    around = functools.partial(_around, noised.partition)

    def own(source: tf.Tensor, rows: RowPartition) -> tf.Tensor:
        """Sources within each example, which count its opening."""
        source = source - rows.broadcast(noised.target_partition.row_starts)
        return source + opened if opened else source

    features = {
        "inputs": around(noised.ids, frame.opening, frame.closing),
        "inputs_source": around(own(noised.source, noised.partition), places, end),
        "inputs_span": around(noised.span, [2] * opened, 2),
        "inputs_op": around(noised.op, [int(record.Op.KEEP)] * opened, int(record.Op.KEEP)),
    }
    outputs, rows = (
        (noised.outputs, own(noised.output_source, noised.output_partition)),
        noised.output_partition,
    )
    outputs += (output_kinds(noised),)
    if "targets" in limits:
        outputs, rows = _cut(outputs, rows, limits["targets"])
    visible = int(TargetKind.IN_PLACE)
    ids, sources, kinds = outputs
    return features | {
        "targets": _around(rows, ids, frame.opening, frame.closing),
        "targets_source": _around(rows, sources, places, end),
        "targets_kind": _around(rows, kinds, [visible] * opened, visible),
    }


def framed_text(noised: record.Noised, frame: Frame) -> dict[str, tf.RaggedTensor]:
    """`text` and `text_noise`, ragged [e, m]: the clean text that sources count, with its opening."""
    columns = record.split(noised)
    text, noise = columns["targets"], columns["target_noise"]
    if frame.opening:
        one = tf.ones([text.nrows(), 1], tf.int32)
        text = tf.concat([one * [frame.opening], text], 1)
        visible = [int(record.TargetNoise.VISIBLE)] * len(frame.opening)
        noise = tf.concat([one * [visible], noise], 1)
    return {"text": text, "text_noise": noise}


def _truncated(noised: record.Noised, limit: int) -> record.Noised:
    """`record.truncate`, at no cost where no example of the window is too long."""

    def changed(noised: record.Noised):
        return noised[:5], noised.target_noise

    columns, target_noise = tf.cond(
        tf.reduce_max(noised.partition.row_lengths) > limit,
        lambda: changed(record.truncate(noised, limit)),
        lambda: changed(noised),
    )
    return record.Noised(*columns, *noised[5:])._replace(target_noise=target_noise)


def _around(
    rows: RowPartition, column: tf.Tensor, first: Sequence[int], last: tf.Tensor | int
) -> tf.RaggedTensor:
    """The column [n] of each example with the values `first` before it and `last` (scalar or [e]) behind."""
    added = len(first) + 1
    last = last + tf.zeros_like(rows.row_lengths)
    examples = tf.range(rows.nrows)
    # Places that the frames of earlier examples take: of columns, of examples.
    before = (rows.value_rowids, examples)
    if first:  # else nothing is spent on it
        before = (rows.value_rowids * added + len(first), examples * added + len(first))
    begins = rows.row_starts + before[1]
    places = [tf.range(rows.nvals) + before[0], begins + rows.row_lengths]
    values = [column, last]
    for back, value in enumerate(reversed(first), 1):
        places.append(begins - back)
        values.append(tf.fill([rows.nrows], value))
    return tf.RaggedTensor.from_row_lengths(
        tf.dynamic_stitch(places, values), rows.row_lengths + added, validate=False
    )


def _cut(
    columns: tuple[tf.Tensor, ...], rows: RowPartition, limit: int
) -> tuple[tuple[tf.Tensor, ...], RowPartition]:
    """The first `limit` values of each example, at no cost where none has more."""

    def cut():
        index, kept = rows.where(rows.offsets < limit)
        return tuple(take(column, index) for column in columns), kept

    return tf.cond(tf.reduce_max(rows.row_lengths) > limit, cut, lambda: (columns, rows))
