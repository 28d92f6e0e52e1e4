"""Selecting examples of a batch, and merging batches back into one.

Shapes: J selected examples; the other letters are those of `record`.
"""

from collections.abc import Sequence

import tensorflow as tf

from denoise_jax.corruption.record import Noised, permute
from denoise_jax.corruption.row_partition import RowPartition


def select(noised: Noised, examples: tf.Tensor) -> Noised:
    """Returns the record of the examples with the given indices [J], ascending."""
    chosen = tf.scatter_nd(
        examples[:, tf.newaxis], tf.ones_like(examples) > 0, noised.partition.nrows[tf.newaxis]
    )

    def rows(partition: RowPartition) -> tuple[tf.Tensor, RowPartition]:
        index, _ = partition.where(partition.broadcast(chosen))
        return index, RowPartition.from_row_lengths(tf.gather(partition.row_lengths, examples))

    tokens, partition = rows(noised.partition)
    positions, target_partition = rows(noised.target_partition)
    written, output_partition = rows(noised.output_partition)
    shifts = target_partition.row_starts - tf.gather(noised.target_partition.row_starts, examples)
    taken = permute(noised, tokens)
    return Noised(
        *taken._replace(source=taken.source + partition.broadcast(shifts))[:4],
        partition,
        *(tf.gather(field, positions) for field in noised[5:8]),
        target_partition,
        tf.gather(noised.outputs, written),
        tf.gather(noised.output_source, written) + output_partition.broadcast(shifts),
        output_partition,
        tf.gather(noised.steps, examples),
    )


def join(parts: Sequence[Noised], examples: Sequence[tf.Tensor]) -> Noised:
    """Merges records: example k of part p becomes example examples[p][k]; every index must occur once."""
    numbers = tf.concat(examples, 0)

    def merge(name: str) -> tuple[tf.Tensor, RowPartition]:
        """For each token of the merged record its index in the concatenated parts; and its partition."""
        lengths = tf.concat([getattr(part, name).row_lengths for part in parts], 0)
        apart = RowPartition.from_row_lengths(lengths)
        merged = RowPartition.from_row_lengths(
            tf.scatter_nd(numbers[:, tf.newaxis], lengths, tf.shape(numbers))
        )
        destination = apart.broadcast(tf.gather(merged.row_starts, numbers)) + apart.offsets
        index = tf.scatter_nd(destination[:, tf.newaxis], tf.range(merged.nvals), tf.shape(destination))
        return index, merged

    tokens, partition = merge("partition")
    positions, target_partition = merge("target_partition")
    written, output_partition = merge("output_partition")

    def field(name: str, index: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.concat([getattr(part, name) for part in parts], 0), index)

    def source(name: str, of: str, index: tf.Tensor, merged: RowPartition) -> tf.Tensor:
        relative = [
            getattr(part, name) - getattr(part, of).broadcast(part.target_partition.row_starts)
            for part in parts
        ]
        return tf.gather(tf.concat(relative, 0), index) + merged.broadcast(target_partition.row_starts)

    steps = tf.concat([part.steps for part in parts], 0)
    return Noised(
        ids=field("ids", tokens),
        source=source("source", "partition", tokens, partition),
        span=field("span", tokens),
        op=field("op", tokens),
        partition=partition,
        targets=field("targets", positions),
        sentence_ids=field("sentence_ids", positions),
        target_noise=field("target_noise", positions),
        target_partition=target_partition,
        outputs=field("outputs", written),
        output_source=source("output_source", "output_partition", written, output_partition),
        output_partition=output_partition,
        steps=tf.scatter_nd(numbers[:, tf.newaxis], steps, tf.shape(numbers)),
    )
