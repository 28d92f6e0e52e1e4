"""The record that all noise reads and writes: a window of corrupted texts, and where each token came from.

Legend of shapes: e examples, n corrupted tokens, m target tokens, t tokens that the decoder writes; each
of the last three counts all examples of the window, laid end to end (see `rows`). Columns are int32.
"""

import enum
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from denoise_jax.corruption.row_partition import RowPartition, put, take


class Op(enum.IntEnum):
    """What made a token of the corrupted text."""

    KEEP = 1  # it is the target token
    MASK = 2  # a mask that stands for hidden tokens
    INSERT = 3  # a mask or another token that stands for nothing
    RANDOM = 4  # another token in the place of the target's
    SENTINEL = 5  # a symbol that marks a place, or stands for hidden tokens under a name of its own


class TargetNoise(enum.IntEnum):
    """What became of a token of the target; each position is exactly one of these."""

    VISIBLE = 1  # it is in the corrupted text
    COVERED = 2  # a mask, a sentinel or a random token takes its place
    DELETED = 3  # nothing takes its place


class Noised(NamedTuple):
    """A window of examples under noise.

    Sources count from 1 through the targets of the whole window; `split` counts them anew in each example.
    `source` and `span` describe a column as it stood when its noise was put on. A mask hides `span - 1`
    tokens which were neighbours then: the first of them is target token `source`; the others are the next
    target tokens but for those deleted before, unless an earlier member of the chain moved text, in which
    case they are those that followed in the moved order. An insertion's source is that of the token it
    stands before, or the one past its example's last. So `span - 1`, summed over an example, is its length
    less its deleted tokens, after any chain; and the sources of KEEP columns are exactly the VISIBLE
    positions, each once.

    What the decoder writes, `outputs`, is the target itself for all corruptions but those that ask for a
    part of it (span corruption, prefix LM and their kin).
    """

    ids: tf.Tensor  # [n] corrupted token ids
    source: tf.Tensor  # [n] target position
    span: tf.Tensor  # [n] tokens stood for, plus one: 2 kept, L + 1 mask over L, 1 inserted
    op: tf.Tensor  # [n] Op
    partition: RowPartition  # of the n corrupted tokens
    targets: tf.Tensor  # [m] the clean token ids
    sentence_ids: tf.Tensor  # [m] sentence of each target token, ascending through the window
    target_noise: tf.Tensor  # [m] TargetNoise
    target_partition: RowPartition  # of the m target tokens
    outputs: tf.Tensor  # [t] ids that the decoder writes
    output_source: tf.Tensor  # [t] target position of each; a sentinel's is that of the token behind it
    output_partition: RowPartition  # of the t tokens
    steps: tf.Tensor  # int64 [e] training step that each example is for; read by schedules


Corruption = Callable[[Noised, tf.Tensor], Noised]
"""(record, keys) → record; the keys are int64 [e], one for each example."""


def writing(corruption: Corruption) -> Corruption:
    """The corruption, marked as one that says what the decoder writes; see `writes`."""
    corruption.writes = True
    return corruption


def writes(corruption: Corruption) -> bool:
    """Whether a corruption says what the decoder writes, instead of leaving it the whole text."""
    return getattr(corruption, "writes", False)


LAST_STEP = 2**31 - 1  # the step of text that no training asks for: every schedule has reached its end


def clean(
    texts: tf.Tensor | tf.RaggedTensor,
    sentence_ids: tf.Tensor | tf.RaggedTensor | None = None,
    steps: tf.Tensor | None = None,
) -> Noised:
    """The record before any noise.

    Args:
      texts: ids; one text [m], or a window of them [e, m], ragged or not.
      sentence_ids: sentence of each token, of the same shape; neighbours with the same number in the same
        text are one sentence. Default: each text is one.
      steps: training step that each text is for, int64 [e]; default: schedules are at their end.
    """
    partition, targets = _flat(texts)
    numbers = tf.zeros_like(targets) if sentence_ids is None else _flat(sentence_ids)[1]
    changed = (numbers[1:] != numbers[:-1]) | (partition.value_rowids[1:] != partition.value_rowids[:-1])
    sentences = tf.concat([tf.ones_like(targets[:1]), 1 + tf.cumsum(tf.cast(changed, tf.int32))], 0)
    places, ones = tf.range(1, partition.nvals + 1), tf.ones_like(targets)
    return Noised(
        ids=targets,
        source=places,
        span=2 * ones,
        op=ones * Op.KEEP,
        partition=partition,
        targets=targets,
        sentence_ids=sentences,
        target_noise=ones * TargetNoise.VISIBLE,
        target_partition=partition,
        outputs=targets,
        output_source=places,
        output_partition=partition,
        steps=tf.fill([partition.nrows], tf.constant(LAST_STEP, tf.int64)) if steps is None else steps,
    )


def split(noised: Noised) -> dict[str, tf.RaggedTensor]:
    """The columns of each example, ragged int32 [e, n], [e, m] or [e, t]; sources count from 1 in each."""

    def ragged(partition: RowPartition, values: tf.Tensor) -> tf.RaggedTensor:
        return tf.RaggedTensor.from_row_lengths(values, partition.row_lengths, validate=False)

    def own(partition: RowPartition, source: tf.Tensor) -> tf.RaggedTensor:
        return ragged(
            partition, source - tf.gather(noised.target_partition.row_starts, partition.value_rowids)
        )

    return {
        "ids": ragged(noised.partition, noised.ids),
        "source": own(noised.partition, noised.source),
        "span": ragged(noised.partition, noised.span),
        "op": ragged(noised.partition, noised.op),
        "targets": ragged(noised.target_partition, noised.targets),
        "target_noise": ragged(noised.target_partition, noised.target_noise),
        "outputs": ragged(noised.output_partition, noised.outputs),
        "output_source": own(noised.output_partition, noised.output_source),
    }


def permute(noised: Noised, index: tf.Tensor) -> Noised:
    """Column k becomes the old column index[k]; no column leaves its example: the rows stay as they are."""
    ids, source, span, op = (take(column, index) for column in noised[:4])
    return noised._replace(ids=ids, source=source, span=span, op=op)


def rearrange(noised: Noised, columns: tf.Tensor, moved: tf.Tensor) -> Noised:
    """The columns `columns` [c] become the old columns moved [c], the same ones in another order."""
    return permute(noised, put(moved, columns, tf.range(noised.partition.nvals)))


def keep(noised: Noised, index: tf.Tensor) -> Noised:
    """Only the columns `index` [k], ascending, without a word about what became of the others."""
    of = take(noised.partition.value_rowids, index)
    return permute(noised, index)._replace(
        partition=RowPartition.from_value_rowids(of, noised.partition.nrows)
    )


def write(noised: Noised, where: tf.Tensor, ids: tf.Tensor | int, op: tf.Tensor | int) -> Noised:
    """Other ids and ops where `where` (bool [n]) is set, in KEEP columns only; their targets are hidden."""
    return noised._replace(
        ids=tf.where(where, ids, noised.ids),
        op=tf.where(where, op, noised.op),
        target_noise=_marked(noised, where, TargetNoise.COVERED),
    )


def delete(noised: Noised, where: tf.Tensor) -> Noised:
    """Without the columns where `where` (bool [n]) is set, all KEEP; their targets are deleted."""
    index, _ = noised.partition.where(~where)
    return keep(noised, index)._replace(target_noise=_marked(noised, where, TargetNoise.DELETED))


def truncate(noised: Noised, limit: int) -> Noised:
    """Without the columns past the first `limit` of each example; targets that only they showed are deleted.

    Tokens that a lost mask stood for stay hidden: with the mask its account of them is lost.
    """
    lost = noised.partition.offsets >= limit
    index, _ = noised.partition.where(~lost)
    gone = _marked(noised, lost & (noised.op == Op.KEEP), TargetNoise.DELETED)
    return keep(noised, index)._replace(target_noise=gone)


def insert(
    noised: Noised, before: tf.Tensor, partition: RowPartition, ids: tf.Tensor, op: int = Op.INSERT
) -> Noised:
    """With z new columns that stand for nothing: ids [z], before the old columns `before` [z], ascending.

    `rows` deals them out to examples, in order; at the end of an example `before` is one past its last
    column. They keep their order among themselves.
    """
    columns = noised.partition.nvals + tf.size(before)
    new = before + tf.range(tf.size(before))
    is_new = put(tf.fill(tf.shape(new), True), new, tf.zeros([columns], bool))
    old = tf.cast(tf.where(~is_new)[:, 0], tf.int32)
    past = partition.broadcast(noised.target_partition.row_starts + noised.target_partition.row_lengths) + 1
    inside = before < partition.broadcast(noised.partition.row_starts + noised.partition.row_lengths)
    behind = tf.gather(tf.concat([noised.source, [0]], 0), before)
    added = (ids, tf.where(inside, behind, past), tf.ones_like(ids), tf.fill(tf.shape(ids), int(op)))
    merged = (tf.dynamic_stitch([old, new], pair) for pair in zip(noised[:4], added, strict=True))
    return Noised(
        *merged,
        RowPartition.from_row_lengths(noised.partition.row_lengths + partition.row_lengths),
        *noised[5:],
    )


def select(noised: Noised, examples: tf.Tensor) -> Noised:
    """The record of the examples numbered `examples` [k], ascending."""
    chosen = tf.scatter_nd(
        examples[:, tf.newaxis], tf.ones_like(examples) > 0, noised.partition.nrows[tf.newaxis]
    )

    def part(partition: RowPartition) -> tuple[tf.Tensor, RowPartition]:
        index, _ = partition.where(partition.broadcast(chosen))
        return index, RowPartition.from_row_lengths(tf.gather(partition.row_lengths, examples))

    (columns, partition), (places, target_partition), (written, output_partition) = map(
        part, _partitions(noised)
    )
    shifts = target_partition.row_starts - tf.gather(noised.target_partition.row_starts, examples)
    taken = permute(noised, columns)
    return Noised(
        *taken._replace(source=taken.source + partition.broadcast(shifts))[:4],
        partition,
        *(tf.gather(column, places) for column in noised[5:8]),
        target_partition,
        tf.gather(noised.outputs, written),
        tf.gather(noised.output_source, written) + output_partition.broadcast(shifts),
        output_partition,
        tf.gather(noised.steps, examples),
    )


def join(parts: Sequence[Noised], examples: Sequence[tf.Tensor]) -> Noised:
    """One record of several: example k of part p becomes example examples[p][k]; each number occurs once."""
    numbers = tf.concat(examples, 0)

    def place(own: Sequence[RowPartition]) -> tuple[tf.Tensor, RowPartition]:
        """For each column of the joined rows its index in the parts laid end to end."""
        parts_partition = RowPartition.from_row_lengths(
            tf.concat([partition.row_lengths for partition in own], 0)
        )
        joined = RowPartition.from_row_lengths(
            tf.scatter_nd(numbers[:, tf.newaxis], parts_partition.row_lengths, tf.shape(numbers))
        )
        goes_to = parts_partition.broadcast(tf.gather(joined.row_starts, numbers)) + parts_partition.offsets
        index = tf.scatter_nd(goes_to[:, tf.newaxis], tf.range(joined.nvals), tf.shape(goes_to))
        return index, joined

    every = zip(*map(_partitions, parts), strict=True)
    (columns, partition), (places, target_partition), (written, output_partition) = map(place, every)

    def joined(field: str, index: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.concat([getattr(part, field) for part in parts], 0), index)

    def joined_source(field: str, of: str, index: tf.Tensor, to: RowPartition) -> tf.Tensor:
        own = [
            getattr(part, field) - getattr(part, of).broadcast(part.target_partition.row_starts)
            for part in parts
        ]
        return tf.gather(tf.concat(own, 0), index) + to.broadcast(target_partition.row_starts)

    return Noised(
        ids=joined("ids", columns),
        source=joined_source("source", "partition", columns, partition),
        span=joined("span", columns),
        op=joined("op", columns),
        partition=partition,
        targets=joined("targets", places),
        sentence_ids=joined("sentence_ids", places),
        target_noise=joined("target_noise", places),
        target_partition=target_partition,
        outputs=joined("outputs", written),
        output_source=joined_source("output_source", "output_partition", written, output_partition),
        output_partition=output_partition,
        steps=tf.scatter_nd(
            numbers[:, tf.newaxis], tf.concat([part.steps for part in parts], 0), tf.shape(numbers)
        ),
    )


def replay(noised: Noised, mask_token: int) -> tf.Tensor:
    """Corrupted ids [n], rebuilt from targets and provenance; equal to `noised.ids` after any chain.

    Kept tokens are read from the target, masks are the mask; random tokens, insertions and sentinels are
    told by nothing but themselves.
    """
    kept = take(tf.concat([noised.targets, [0]], 0), noised.source - 1)
    return tf.where(noised.op == Op.KEEP, kept, tf.where(noised.op == Op.MASK, mask_token, noised.ids))


def _partitions(noised: Noised) -> tuple[RowPartition, RowPartition, RowPartition]:
    return noised.partition, noised.target_partition, noised.output_partition


def _flat(texts: tf.Tensor | tf.RaggedTensor) -> tuple[RowPartition, tf.Tensor]:
    if isinstance(texts, tf.Tensor) and texts.shape.rank == 2:
        texts = tf.RaggedTensor.from_tensor(texts)
    if isinstance(texts, tf.RaggedTensor):
        return RowPartition.from_row_lengths(tf.cast(texts.row_lengths(), tf.int32)), tf.cast(
            texts.flat_values, tf.int32
        )
    return RowPartition.from_row_lengths(tf.size(texts)[tf.newaxis]), tf.cast(texts, tf.int32)


def _marked(noised: Noised, where: tf.Tensor, noise: TargetNoise) -> tf.Tensor:
    """`target_noise` [m] with `noise` for the targets of the KEEP columns where `where` (bool [n]) is set."""
    places = take(noised.source, tf.cast(tf.where(where)[:, 0], tf.int32)) - 1
    return put(tf.fill(tf.shape(places), int(noise)), places, noised.target_noise)
