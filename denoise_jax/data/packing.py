"""Examples → rows of fixed length with segment ids and positions: packed, or one example per row.

Packing joins consecutive examples, so a batch of examples becomes rows by repartitioning its concatenated
features: a few vector operations per batch, where SeqIO's packing loops over examples and features.
This packs about twice as many tokens per CPU second; see benchmarks/packing.py.
"""

from collections.abc import Mapping

import seqio
import tensorflow as tf

from denoise_jax.data.grouping import greedy_groups
from denoise_jax.target_kinds import TargetKind
from denoise_jax.vocabulary.base import EOS_ID

EXAMPLES_PER_BATCH = 256  # examples packed together; the last row of a batch may remain partly empty

_INT32 = seqio.FeatureConverter.FeatureSpec(dtype=tf.int32)


class DenoisingFeatureConverter(seqio.FeatureConverter):
    """SeqIO feature converter of this project; its features have T5X's names.

    `inputs` and `targets`, int32 [n] each, become rows of int32: `encoder_input_tokens`,
    `encoder_segment_ids`, `encoder_positions` [input length] and `decoder_input_tokens`,
    `decoder_target_tokens`, `decoder_segment_ids`, `decoder_positions`, `decoder_target_kind`
    [target length]. Padding is 0 in all of them. Segments count from 1, positions restart at 0 in each
    segment, and decoder inputs are the targets shifted right after a start token.

    With `num_classes`, for a classification head on the decoder's last token (Lewis et al. 2019, section
    3.1), `targets` is one class [1], counted from 0. The decoder then reads the inputs, shifted right, and
    the class is the target at the last </s> of its inputs, which a language may follow (without one, at
    the last position). It is the only target with a kind; others are 0.

    Two more features are optional. `targets_kind`, int32 [n], is the TargetKind of each target; without it,
    as in fine-tuning, all targets count as MASKED. `decoder_start`, int32 [1], is the start token of its
    example, such as a language; the default is `bos_id` (SeqIO's name), the vocabulary's start token.
    """

    TASK_FEATURES: Mapping = {"inputs": _INT32, "targets": _INT32}
    ENCODER: Mapping = {
        "encoder_input_tokens": _INT32,
        "encoder_segment_ids": _INT32,
        "encoder_positions": _INT32,
    }
    DECODER: Mapping = {
        "decoder_input_tokens": _INT32,
        "decoder_target_tokens": _INT32,
        "decoder_segment_ids": _INT32,
        "decoder_positions": _INT32,
        "decoder_target_kind": _INT32,
    }
    MODEL_FEATURES: Mapping = {**ENCODER, **DECODER}
    PACKING_FEATURE_DTYPES: Mapping = {}  # both kinds of rows have segment ids and positions

    def __init__(
        self,
        pack: bool = True,
        *,
        bos_id: int = 0,
        num_classes: int | None = None,
        examples_per_batch: int = EXAMPLES_PER_BATCH,
    ):
        super().__init__(pack=pack, apply_length_check=False, bos_id=bos_id)
        self._examples_per_batch, self._num_classes = examples_per_batch, num_classes

    def get_model_feature_lengths(self, task_feature_lengths):
        encoder = dict.fromkeys(self.ENCODER, task_feature_lengths["inputs"])
        return {**encoder, **dict.fromkeys(self.DECODER, task_feature_lengths["targets"])}

    def _convert_features(self, ds, task_feature_lengths):
        lengths = task_feature_lengths["inputs"], task_feature_lengths["targets"]

        # All features are batched: dropping the unused ones first would cost a map over single examples.
        ds = ds.ragged_batch(self._examples_per_batch)
        ds = ds.map(lambda batch: self._rows(batch, *lengths), num_parallel_calls=tf.data.AUTOTUNE)
        return ds.unbatch()

    def _rows(self, batch, input_length: int, target_length: int) -> dict[str, tf.Tensor]:
        """Rows [rows, length] of a batch of examples, given as ragged features [examples, n]."""
        inputs, read, targets, kinds = self._sides(batch, input_length, target_length)
        if self.pack:
            sizes = [tf.cast(side.row_lengths(), tf.int32) for side in (inputs, targets)]
            row_of_example = greedy_groups(sizes, [input_length, target_length])
        else:
            row_of_example = tf.range(tf.cast(inputs.nrows(), tf.int32))
        start = batch.get("decoder_start", tf.fill([targets.nrows(), 1], self.bos_id))
        shifted = tf.concat([start, read], 1)[:, :-1]
        return {
            "encoder_input_tokens": _join(inputs, row_of_example, input_length),
            **_layout("encoder", inputs, row_of_example, input_length),
            "decoder_input_tokens": _join(shifted, row_of_example, target_length),
            "decoder_target_tokens": _join(targets, row_of_example, target_length),
            "decoder_target_kind": _join(kinds, row_of_example, target_length),
            **_layout("decoder", targets, row_of_example, target_length),
        }

    def _sides(self, batch, input_length: int, target_length: int) -> tuple[tf.RaggedTensor, ...]:
        """Inputs; and, of equal lengths, what the decoder reads (before shifting), targets and kinds."""
        if self._num_classes is not None:
            inputs = batch["inputs"][:, : min(input_length, target_length)]
            return inputs, inputs, *_classes(inputs, batch["targets"], self._num_classes)
        inputs, targets = batch["inputs"][:, :input_length], batch["targets"][:, :target_length]
        if "targets_kind" in batch:
            kinds = batch["targets_kind"][:, :target_length]
        else:
            kinds = tf.ones_like(targets) * int(TargetKind.MASKED)
        return inputs, targets, targets, kinds


def _classes(
    inputs: tf.RaggedTensor, classes: tf.RaggedTensor | tf.Tensor, num_classes: int
) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """Targets and kinds in the shape of `inputs` [e, n]: the class of each example at its last </s>, else 0.

    `classes` are [e, 1]. The iterator fails with InvalidArgumentError unless every example has an input and
    exactly one class, within bounds.
    """
    sizes = inputs.row_lengths()
    classes = classes if isinstance(classes, tf.RaggedTensor) else tf.RaggedTensor.from_tensor(classes)
    values = classes.flat_values
    single = tf.reduce_all(classes.row_lengths() == 1) & tf.reduce_all(sizes > 0)
    known = tf.reduce_all((values >= 0) & (values < num_classes))
    bounds = f"classes must be 0 to {num_classes - 1} (model.num_classes={num_classes}), but there are"
    found = [bounds.encode(), tf.reduce_min(values), b"to", tf.reduce_max(values)]
    checks = [
        tf.debugging.Assert(single, [b"an example needs inputs, and one class as its targets"]),
        tf.debugging.Assert(known, found),
    ]
    with tf.control_dependencies(checks):  # before tensors of different lengths are combined
        position = tf.ragged.range(sizes).flat_values
        ending = inputs.with_flat_values(tf.where(inputs.flat_values == EOS_ID, position, -1))
        found = tf.reduce_max(ending, axis=1)
        offset = tf.where(found < 0, sizes - 1, found)
        places = (tf.cumsum(sizes, exclusive=True) + offset)[:, None]

    def last(values: tf.Tensor) -> tf.RaggedTensor:
        column = tf.scatter_nd(places, values, tf.shape(inputs.flat_values, tf.int64))
        return inputs.with_flat_values(column)

    return last(values), last(tf.fill(tf.shape(values), int(TargetKind.MASKED)))


def _join(examples: tf.RaggedTensor, row_of_example: tf.Tensor, length: int) -> tf.Tensor:
    """Concatenates consecutive examples [e, n] in their rows: int32 [rows, length]."""
    rows = tf.RaggedTensor.from_value_rowids(
        examples.flat_values, tf.repeat(row_of_example, examples.row_lengths()), validate=False
    )
    return rows.to_tensor(shape=[None, length])


def _layout(
    side: str, examples: tf.RaggedTensor, row_of_example: tf.Tensor, length: int
) -> dict[str, tf.Tensor]:
    """Segment ids and positions of the tokens of one side, both [rows, length]."""
    first_of_row = tf.searchsorted(row_of_example, row_of_example)
    segment_of_example = tf.range(tf.size(row_of_example)) - first_of_row + 1
    segments = examples.with_flat_values(tf.repeat(segment_of_example, examples.row_lengths()))
    positions = tf.cast(tf.ragged.range(examples.row_lengths()), tf.int32)
    return {
        f"{side}_segment_ids": _join(segments, row_of_example, length),
        f"{side}_positions": _join(positions, row_of_example, length),
    }
