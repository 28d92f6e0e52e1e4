"""The record that every corruption reads and returns: a batch of corrupted texts with token provenance.

Shapes: E examples, N corrupted tokens, M target tokens, T output tokens (those that the decoder writes);
N, M and T each count the tokens of the whole batch, flattened (see `row_partition`). K tokens are selected
and Z inserted. Tensors are int32 unless stated otherwise.
"""

import enum
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from denoise_jax.corruption.row_partition import RowPartition, put, take


class Op(enum.IntEnum):
    """How a corrupted token came about."""

    KEEP = 1  # copied from the target
    MASK = 2  # a mask in place of hidden tokens
    INSERT = 3  # a mask or random token that corresponds to nothing in the target
    RANDOM = 4  # a random token in place of hidden tokens
    SENTINEL = 5  # a special token that marks a position or, like T5's sentinels, takes a span's place


class TargetNoise(enum.IntEnum):
    """What happened to a target token."""

    VISIBLE = 1  # it is in the corrupted text
    COVERED = 2  # a mask, a sentinel or a random token takes its place
    DELETED = 3  # nothing takes its place


class Noised(NamedTuple):
    """A batch of examples with noise applied.

    `source` is a 1-based position in the flattened targets of the whole batch; `split` makes it relative to
    the example. `source` and `span` of a token are fixed by the noise that wrote it: a mask hides `span - 1`
    tokens that were adjacent at that time. The first of these is target token `source`; the others are the
    target tokens after it that had not been deleted, or, if an earlier member of a chain moved text, the
    ones that followed in the reordered text. The source of an insertion is that of the token it was inserted
    before, or one past the last target token at the end of an example.

    After any chain of corruptions, `span - 1` summed over an example is the number of its target tokens that
    are not DELETED, and the sources of its KEEP tokens are exactly its VISIBLE positions, each once.

    `outputs` are the targets themselves unless a corruption, such as span corruption or prefix LM, has the
    decoder write only part of them.
    """

    ids: tf.Tensor  # [N] corrupted token ids
    source: tf.Tensor  # [N] target position
    span: tf.Tensor  # [N] 1 + number of target tokens represented: 2 kept, L + 1 mask over L, 1 inserted
    op: tf.Tensor  # [N] Op
    partition: RowPartition  # of the N corrupted tokens
    targets: tf.Tensor  # [M] clean token ids
    sentence_ids: tf.Tensor  # [M] sentence of each target token, ascending through the batch
    target_noise: tf.Tensor  # [M] TargetNoise
    target_partition: RowPartition  # of the M target tokens
    outputs: tf.Tensor  # [T] ids that the decoder writes
    output_source: tf.Tensor  # [T] target position of each; for a sentinel, that of the token after it
    output_partition: RowPartition  # of the T output tokens
    steps: tf.Tensor  # [E] int64 training step at which the example will be used; read by schedules


Corruption = Callable[[Noised, tf.Tensor], Noised]
"""(record, keys) -> record, where keys are int64 [E], one for each example."""


def output_setter(corruption: Corruption) -> Corruption:
    """Marks a corruption that chooses what the decoder writes; see `sets_outputs`."""
    corruption.sets_outputs = True
    return corruption


def sets_outputs(corruption: Corruption) -> bool:
    """Whether a corruption chooses what the decoder writes, which is otherwise the full text."""
    return getattr(corruption, "sets_outputs", False)


LAST_STEP = 2**31 - 1  # the step of text outside of training, where every schedule has reached its end


def clean(
    texts: tf.Tensor | tf.RaggedTensor,
    sentence_ids: tf.Tensor | tf.RaggedTensor | None = None,
    steps: tf.Tensor | None = None,
) -> Noised:
    """Returns the record of texts without noise.

    Args:
      texts: token ids of one text [M], or of a batch of texts, dense or ragged [E, None].
      sentence_ids: sentence of each token, in the shape of `texts`; adjacent tokens of a text with equal ids
        form a sentence. By default each text is one sentence.
      steps: int64 [E], training step at which each text will be used. By default schedules are at their end.
    """
    partition, targets = _flat(texts)
    ids = tf.zeros_like(targets) if sentence_ids is None else _flat(sentence_ids)[1]
    changed = (ids[1:] != ids[:-1]) | (partition.value_rowids[1:] != partition.value_rowids[:-1])
    ascending_ids = tf.concat([tf.ones_like(targets[:1]), 1 + tf.cumsum(tf.cast(changed, tf.int32))], 0)
    positions, ones = tf.range(1, partition.nvals + 1), tf.ones_like(targets)
    return Noised(
        ids=targets,
        source=positions,
        span=2 * ones,
        op=ones * Op.KEEP,
        partition=partition,
        targets=targets,
        sentence_ids=ascending_ids,
        target_noise=ones * TargetNoise.VISIBLE,
        target_partition=partition,
        outputs=targets,
        output_source=positions,
        output_partition=partition,
        steps=tf.fill([partition.nrows], tf.constant(LAST_STEP, tf.int64)) if steps is None else steps,
    )


def split(noised: Noised) -> dict[str, tf.RaggedTensor]:
    """Returns the fields per example, ragged int32 [E, None]; sources are relative to the example, from 1."""

    def ragged(partition: RowPartition, values: tf.Tensor) -> tf.RaggedTensor:
        return tf.RaggedTensor.from_row_lengths(values, partition.row_lengths, validate=False)

    def relative(partition: RowPartition, source: tf.Tensor) -> tf.RaggedTensor:
        start = tf.gather(noised.target_partition.row_starts, partition.value_rowids)
        return ragged(partition, source - start)

    return {
        "ids": ragged(noised.partition, noised.ids),
        "source": relative(noised.partition, noised.source),
        "span": ragged(noised.partition, noised.span),
        "op": ragged(noised.partition, noised.op),
        "targets": ragged(noised.target_partition, noised.targets),
        "target_noise": ragged(noised.target_partition, noised.target_noise),
        "outputs": ragged(noised.output_partition, noised.outputs),
        "output_source": relative(noised.output_partition, noised.output_source),
    }


def permute(noised: Noised, index: tf.Tensor) -> Noised:
    """Puts token index[k] at position k, index [N]. Tokens must stay within their example."""
    ids, source, span, op = (take(field, index) for field in noised[:4])
    return noised._replace(ids=ids, source=source, span=span, op=op)


def rearrange(noised: Noised, positions: tf.Tensor, moved: tf.Tensor) -> Noised:
    """Puts token moved[k] at positions[k]; both are [K] and hold the same positions."""
    return permute(noised, put(moved, positions, tf.range(noised.partition.nvals)))


def keep(noised: Noised, index: tf.Tensor) -> Noised:
    """Keeps only the tokens at `index` [K], ascending. `target_noise` is left for the caller to update."""
    rowids = take(noised.partition.value_rowids, index)
    partition = RowPartition.from_value_rowids(rowids, noised.partition.nrows)
    return permute(noised, index)._replace(partition=partition)


def write(noised: Noised, where: tf.Tensor, ids: tf.Tensor | int, op: tf.Tensor | int) -> Noised:
    """Overwrites ids and ops where `where` (bool [N]) is set, which covers the targets of these tokens.

    Only KEEP tokens may be overwritten; `ids` and `op` are scalars or [N].
    """
    return noised._replace(
        ids=tf.where(where, ids, noised.ids),
        op=tf.where(where, op, noised.op),
        target_noise=_marked(noised, where, TargetNoise.COVERED),
    )


def delete(noised: Noised, where: tf.Tensor) -> Noised:
    """Deletes the tokens where `where` (bool [N]) is set, and with them their targets; all must be KEEP."""
    index, _ = noised.partition.where(~where)
    return keep(noised, index)._replace(target_noise=_marked(noised, where, TargetNoise.DELETED))


def truncate(noised: Noised, limit: int) -> Noised:
    """Cuts each example after `limit` corrupted tokens; the targets of KEEP tokens that are cut are DELETED.

    Targets of a mask that is cut remain COVERED: without the mask nothing records which ones they were.
    """
    cut = noised.partition.offsets >= limit
    index, _ = noised.partition.where(~cut)
    target_noise = _marked(noised, cut & (noised.op == Op.KEEP), TargetNoise.DELETED)
    return keep(noised, index)._replace(target_noise=target_noise)


def insert(
    noised: Noised, before: tf.Tensor, partition: RowPartition, ids: tf.Tensor, op: int = Op.INSERT
) -> Noised:
    """Inserts Z tokens that correspond to nothing in the target.

    Args:
      before: [Z] position that each is inserted before, ascending; at the end of an example, one past its
        last token. Tokens inserted at one position stay in order.
      partition: of the Z tokens into examples.
      ids: [Z].
    """
    new = before + tf.range(tf.size(before))
    total = noised.partition.nvals + tf.size(before)
    is_new = put(tf.fill(tf.shape(new), True), new, tf.zeros([total], bool))
    old = tf.cast(tf.where(~is_new)[:, 0], tf.int32)
    past_end = partition.broadcast(noised.target_partition.row_limits) + 1
    inside = before < partition.broadcast(noised.partition.row_limits)
    next_source = tf.gather(tf.concat([noised.source, [0]], 0), before)
    added = (ids, tf.where(inside, next_source, past_end), tf.ones_like(ids), tf.fill(tf.shape(ids), int(op)))
    merged = (tf.dynamic_stitch([old, new], pair) for pair in zip(noised[:4], added, strict=True))
    row_lengths = noised.partition.row_lengths + partition.row_lengths
    return Noised(*merged, RowPartition.from_row_lengths(row_lengths), *noised[5:])


def sentence_of(noised: Noised, positions: tf.Tensor, partition: RowPartition) -> tf.Tensor:
    """Sentence id of the source of each token at `positions` [K], which `partition` divides: [K]."""
    # The source of an insertion at the end of an example is past its last token: the last sentence counts.
    last = partition.broadcast(noised.target_partition.row_limits)
    return take(noised.sentence_ids, tf.minimum(take(noised.source, positions), last) - 1)


def replay(noised: Noised, mask_token: int) -> tf.Tensor:
    """Rebuilds the corrupted ids [N] from targets and provenance; they equal `noised.ids` after any chain.

    Kept tokens are read from the targets and masks are `mask_token`; random tokens, insertions and sentinels
    are recorded nowhere but in `ids` and are taken from there.
    """
    kept = take(tf.concat([noised.targets, [0]], 0), noised.source - 1)
    return tf.where(noised.op == Op.KEEP, kept, tf.where(noised.op == Op.MASK, mask_token, noised.ids))


def _flat(texts: tf.Tensor | tf.RaggedTensor) -> tuple[RowPartition, tf.Tensor]:
    if isinstance(texts, tf.Tensor) and texts.shape.rank == 2:
        texts = tf.RaggedTensor.from_tensor(texts)
    if isinstance(texts, tf.RaggedTensor):
        row_lengths, ids = tf.cast(texts.row_lengths(), tf.int32), texts.flat_values
    else:
        row_lengths, ids = tf.size(texts)[tf.newaxis], texts
    return RowPartition.from_row_lengths(row_lengths), tf.cast(ids, tf.int32)


def _marked(noised: Noised, where: tf.Tensor, noise: TargetNoise) -> tf.Tensor:
    """`target_noise` [M] with `noise` at the targets of the KEEP tokens where `where` (bool [N]) is set."""
    positions = take(noised.source, tf.cast(tf.where(where)[:, 0], tf.int32)) - 1
    return put(tf.fill(tf.shape(positions), int(noise)), positions, noised.target_noise)
