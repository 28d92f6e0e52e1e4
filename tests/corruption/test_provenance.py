"""Kinds of target tokens: on handwritten records, and against slow reference definitions for real noise."""

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption import presets
from denoise_jax.corruption.compose import chain
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.provenance import output_kinds, target_kinds
from denoise_jax.corruption.record import (
    Noised,
    Op,
    TargetNoise,
    delete,
    insert,
    permute,
    truncate,
    write,
)
from denoise_jax.corruption.row_partition import RowPartition
from denoise_jax.corruption.sentence_permutation import sentence_permutation
from denoise_jax.corruption.span_corruption import span_corruption
from denoise_jax.target_kinds import HIDDEN, TargetKind
from denoise_jax.target_kinds import VISIBLE as VISIBLE_KINDS
from tests.corruption.helpers import SYMBOLS, batch_of, examples_of, keys_of

IN_PLACE, MASKED, DELETED, REPLACED, MOVED, BESIDE = TargetKind


def kinds_of(noised: Noised) -> list[list[int]]:
    """Kinds of the target tokens of each example."""
    return tf.RaggedTensor.from_row_lengths(
        target_kinds(noised), noised.target_partition.row_lengths
    ).to_list()


LENGTHS = [(5, 3, 6, 4), (1,), (2, 2), (17,), (1, 1, 1)] * 10  # of the sentences of each text
BATCH = batch_of(
    [[*range(10, 10 + sum(lengths))] for lengths in LENGTHS],
    [np.repeat(np.arange(len(lengths)), lengths).tolist() for lengths in LENGTHS],
)
KEYS = keys_of(len(LENGTHS))


def reference_kinds(example) -> list[int]:
    """Kinds of one example by their definitions, one token at a time."""
    tokens = list(zip(example.source, example.op, example.span, strict=True))
    kept = [source for source, op, _ in tokens if op == Op.KEEP]
    before = dict(zip(kept, [None, *kept], strict=False))
    before_in_target = dict(zip(sorted(kept), [None, *sorted(kept)], strict=False))
    covering = sorted((source, op) for source, op, span in tokens if op != Op.KEEP and span > 1)
    kinds = []
    for position, noise in enumerate(example.target_noise, 1):
        if noise == TargetNoise.DELETED:
            kinds.append(DELETED)
        elif noise == TargetNoise.COVERED:
            ops = [op for source, op in covering if source <= position]
            kinds.append(REPLACED if ops and ops[-1] == Op.RANDOM else MASKED)
        elif before[position] != before_in_target[position]:
            kinds.append(MOVED)
        else:
            (index,) = np.flatnonzero((example.op == Op.KEEP) & (example.source == position))
            beside = [example.span[c] for c in (index - 1, index + 1) if 0 <= c < len(tokens)]
            kinds.append(BESIDE if 1 in beside else IN_PLACE)
    return kinds


def test_kinds_are_positive_and_either_visible_or_hidden():
    assert sorted(VISIBLE_KINDS + HIDDEN) == sorted(TargetKind) == [1, 2, 3, 4, 5, 6]
    assert (IN_PLACE, DELETED) == (TargetNoise.VISIBLE, TargetNoise.DELETED)


def test_hidden_kinds_by_hand():
    noised = batch_of([[10, 11, 12, 13, 14, 15], [20, 21, 22]])
    masks, randoms, deleted = (tf.range(9) == position for position in (1, 6, 3))
    noised = write(write(noised, masks, 4, Op.MASK), randoms, 77, Op.RANDOM)
    noised = delete(noised, deleted | (tf.range(9) == 8))
    assert kinds_of(noised) == [
        [IN_PLACE, MASKED, IN_PLACE, DELETED, IN_PLACE, IN_PLACE],
        [REPLACED, IN_PLACE, DELETED],
    ]


def test_moved_by_hand():
    noised = batch_of([[10, 11, 12, 13, 14], [20, 21], [30], [40, 41, 42]])
    # now 12 13 10 11 14, and 41 42 40
    noised = permute(noised, tf.constant([2, 3, 0, 1, 4, 5, 6, 7, 9, 10, 8]))
    assert kinds_of(noised) == [
        [MOVED, IN_PLACE, MOVED, IN_PLACE, MOVED],
        [IN_PLACE, IN_PLACE],
        [IN_PLACE],
        [MOVED, MOVED, IN_PLACE],
    ]
    # Tokens that are not visible are ignored: without 11, 12 follows 10 in both.
    noised = delete(batch_of([[10, 11, 12, 13]]), tf.constant([0, 1, 0, 0]) > 0)
    assert kinds_of(noised) == [[IN_PLACE, DELETED, IN_PLACE, IN_PLACE]]
    assert kinds_of(permute(noised, tf.constant([0, 2, 1]))) == [[IN_PLACE, DELETED, MOVED, MOVED]]


def test_a_move_at_the_boundary_of_two_examples_stays_within_each():
    two = batch_of([[10, 11], [20, 21]])
    assert kinds_of(permute(two, tf.constant([1, 0, 3, 2]))) == [[MOVED, MOVED], [MOVED, MOVED]]
    assert kinds_of(permute(two, tf.constant([1, 0, 2, 3])))[1] == [IN_PLACE, IN_PLACE]


def test_beside_insertions_by_hand():
    noised = batch_of([[10, 11, 12], [20, 21], [30, 31]])
    # Before 11, at the end of the first example, and before 30.
    partition = RowPartition.from_row_lengths(tf.constant([2, 0, 1]))
    noised = insert(noised, tf.constant([1, 3, 5]), partition, tf.constant([4, 4, 800]))
    assert kinds_of(noised) == [[BESIDE, BESIDE, BESIDE], [IN_PLACE, IN_PLACE], [BESIDE, IN_PLACE]]
    noised = permute(noised, tf.constant([0, 1, 2, 3, 4, 6, 5, 9, 8, 7]))  # 31 30 and the insertion
    assert kinds_of(noised)[1:] == [[MOVED, MOVED], [MOVED, MOVED]]


def test_empty_batches_and_texts():
    assert kinds_of(batch_of([[], []])) == [[], []]
    assert kinds_of(batch_of([[], [10], []])) == [[], [IN_PLACE], []]


@pytest.mark.parametrize("name", presets.PRESETS)
def test_presets_agree_with_the_definitions(name):
    noised = presets.build(name, SYMBOLS)(BATCH, KEYS)
    for example, kinds in zip(examples_of(noised), kinds_of(noised), strict=True):
        assert kinds == reference_kinds(example), example
    assert target_kinds(noised).dtype == output_kinds(noised).dtype == tf.int32


def test_a_chain_with_all_six_kinds_agrees_with_the_definitions():
    def drop(noised, key):
        return delete(noised, SYMBOLS.eligible(noised) & (tf.range(noised.partition.nvals) % 7 == 3))

    infilling = text_infilling(SYMBOLS, span_length="poisson", mean_span_length=1.5, mask_random=0.4)
    members = [drop, sentence_permutation(SYMBOLS), infilling, lambda noised, key: truncate(noised, 12)]
    noised = chain(members)(BATCH, KEYS)
    kinds = kinds_of(noised)
    assert kinds == [reference_kinds(example) for example in examples_of(noised)]
    assert {kind for example in kinds for kind in example} == set(TargetKind)


def test_a_random_token_replaces_its_complete_span():
    """According to the spans themselves, which are those of the target since nothing was moved or deleted."""
    infilling = text_infilling(SYMBOLS, span_length="poisson", mask_random=0.5)
    noised = infilling(BATCH, KEYS)
    for example, kinds in zip(examples_of(noised), kinds_of(noised), strict=True):
        for source, span, op in zip(example.source, example.span, example.op, strict=True):
            if op in (Op.MASK, Op.RANDOM):
                assert set(kinds[source - 1 : source + span - 2]) == {MASKED if op == Op.MASK else REPLACED}


def test_a_span_over_deleted_tokens_replaces_the_remaining_ones():
    noised = delete(batch_of([[*range(10, 20)]]), tf.range(10) % 3 == 1)
    everything = text_infilling(SYMBOLS, mask_prob=1.0, mask_random=1.0)
    noised = everything(noised, tf.zeros([1], tf.int64))
    assert kinds_of(noised) == [[DELETED if position % 3 == 1 else REPLACED for position in range(10)]]


def test_outputs_have_the_kind_of_their_source_and_sentinels_are_visible():
    noised = span_corruption(SYMBOLS, noise_density=0.4)(BATCH, KEYS)
    sentinels = noised.outputs.numpy() >= 900
    assert len(LENGTHS) // 2 <= sentinels.sum() < len(sentinels)
    np.testing.assert_array_equal(output_kinds(noised), np.where(sentinels, IN_PLACE, MASKED))
    # The source of a special token after the last token, such as a final sentinel, is past all targets.
    closed = batch_of([[10, 11]])._replace(outputs=tf.constant([11, 900]), output_source=tf.constant([2, 3]))
    closed = write(closed, tf.constant([False, True]), 4, Op.MASK)
    assert output_kinds(closed).numpy().tolist() == [MASKED, IN_PLACE]
