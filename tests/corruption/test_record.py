"""The record: from texts to tokens and back, and the operations that corruptions are made of."""

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption.batches import join, select
from denoise_jax.corruption.compose import chain
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.record import (
    LAST_STEP,
    Noised,
    Op,
    TargetNoise,
    clean,
    delete,
    insert,
    keep,
    permute,
    replay,
    split,
    write,
)
from denoise_jax.corruption.row_partition import RowPartition
from denoise_jax.corruption.sentence_permutation import sentence_permutation
from denoise_jax.corruption.symbols import Symbols
from tests.corruption.helpers import batch_of, keys_of

SYMBOLS = Symbols(mask_token=4, vocab_size=1000, protected=(0, 1, 2, 3))
NOISE = chain(
    [
        text_infilling(SYMBOLS, mask_prob=0.2, replace_length=0),
        sentence_permutation(SYMBOLS),
        text_infilling(SYMBOLS, span_length="poisson", mean_span_length=1.0),
    ]
)
SIZES = [[], [0], [5], [0, 0, 3], [4, 0, 9, 1, 7, 0], [1] * 8, [6, 2, 0, 8, 3]]


def batch(sizes):
    return clean(tf.RaggedTensor.from_row_lengths(10 + tf.range(sum(sizes)), tf.constant(sizes, tf.int64)))


def noised_batch(sizes: list[int]) -> Noised:
    """Texts of these lengths with tokens deleted, moved and masked, each at a different step."""
    ids = iter(range(10, 10 + sum(sizes)))
    texts = [[next(ids) for _ in range(size)] for size in sizes]
    sentence_ids = [[token // 4 for token in text] for text in texts]
    noised = NOISE(
        batch_of(texts, sentence_ids, steps=tf.range(len(sizes), dtype=tf.int64)), keys_of(len(sizes))
    )
    return noised._replace(outputs=noised.targets + 100)  # as if the decoder wrote something else


def assert_equal(one, other):
    for expected, field in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        assert field.dtype == expected.dtype
        np.testing.assert_array_equal(field, expected)


def lists(fields):
    return {name: values.to_list() for name, values in fields.items()}


def test_the_clean_record_of_a_batch():
    texts = tf.ragged.constant([[7, 8, 9], [], [7]], tf.int64)
    noised = clean(texts, tf.ragged.constant([[5, 5, 9], [], [9]], tf.int64))
    assert noised.source.numpy().tolist() == [1, 2, 3, 4]
    assert noised.sentence_ids.numpy().tolist() == [1, 1, 2, 3]  # ids do not continue across texts
    assert noised.steps.numpy().tolist() == [LAST_STEP] * 3
    for field in noised:
        assert all(part.dtype == tf.int32 for part in tf.nest.flatten(field)) or field is noised.steps
    fields = lists(split(noised))
    for name in ("ids", "targets", "outputs"):
        assert fields[name] == [[7, 8, 9], [], [7]]
    for name in ("source", "output_source"):
        assert fields[name] == [[1, 2, 3], [], [1]]
    assert fields["span"] == [[2, 2, 2], [], [2]]
    assert fields["op"] == fields["target_noise"] == [[1, 1, 1], [], [1]]


def test_one_text_is_a_batch_of_one():
    assert_equal(clean(tf.constant([7, 8])), clean(tf.ragged.constant([[7, 8]], tf.int32)))
    assert clean(tf.constant([7, 8, 9])).sentence_ids.numpy().tolist() == [1, 1, 1]
    assert int(clean(tf.constant([], tf.int32)).partition.nrows) == 1
    assert clean(tf.constant([7, 8]), tf.constant([3, 1])).sentence_ids.numpy().tolist() == [1, 2]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_selected_examples_can_be_joined_again(sizes):
    """Each example keeps its tokens, with sources relative to the example."""
    noised = noised_batch(sizes)
    parts = np.random.default_rng(len(sizes)).integers(0, 3, len(sizes)).tolist()
    examples = [tf.constant([i for i, p in enumerate(parts) if p == part], tf.int32) for part in range(3)]
    selected = [select(noised, own) for own in examples]
    whole = lists(split(noised))
    for own, part in zip(examples, selected, strict=True):
        for name, values in split(part).items():
            assert values.to_list() == [whole[name][i] for i in own.numpy()]
        np.testing.assert_array_equal(part.steps, own)
    joined = join(selected, examples)
    assert_equal(noised._replace(sentence_ids=joined.sentence_ids), joined)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_insertions_go_before_their_position(sizes):
    noised, random = noised_batch(sizes), np.random.default_rng(len(sizes))
    before = lists(split(noised))
    length = [len(ids) for ids in before["ids"]]
    chosen = [sorted(random.integers(0, n + 1, random.integers(0, 4)).tolist()) for n in length]
    starts = np.cumsum([0, *length])
    before_positions = [starts[i] + position for i, own in enumerate(chosen) for position in own]
    ids = tf.range(500, 500 + len(before_positions))
    partition = RowPartition.from_row_lengths(tf.constant([len(own) for own in chosen], tf.int32))
    inserted = insert(noised, tf.constant(before_positions, tf.int32), partition, ids)
    after, new = lists(split(inserted)), iter(range(500, 500 + len(before_positions)))
    for i, own in enumerate(chosen):
        expected, sources = [], []
        for position in range(length[i] + 1):
            source = before["source"][i][position] if position < length[i] else sizes[i] + 1
            expected += [next(new) for _ in range(own.count(position))]
            sources += [source] * own.count(position)
            expected += before["ids"][i][position : position + 1]
            sources += before["source"][i][position : position + 1]
        assert after["ids"][i] == expected
        assert after["source"][i] == sources
    added = inserted.op.numpy()[inserted.ids.numpy() >= 500] if before_positions else []
    assert (np.array(added) == Op.INSERT).all()
    assert after["targets"] == before["targets"]


def test_write_delete_keep_and_permute():
    noised = batch([3, 2])
    flags = tf.constant([False, True, False, True, False])
    masked = write(noised, flags, 4, Op.MASK)
    assert lists(split(masked))["ids"] == [[10, 4, 12], [4, 14]]
    hidden, visible = int(TargetNoise.COVERED), int(TargetNoise.VISIBLE)
    assert lists(split(masked))["target_noise"] == [[visible, hidden, visible], [hidden, visible]]
    np.testing.assert_array_equal(replay(masked, 4), masked.ids)
    rest = delete(noised, flags)
    assert lists(split(rest))["ids"] == [[10, 12], [14]]
    assert lists(split(rest))["source"] == [[1, 3], [2]]
    assert rest.target_noise.numpy().tolist() == [1, 3, 1, 3, 1]
    assert_equal(rest._replace(target_noise=noised.target_noise), keep(noised, tf.constant([0, 2, 4])))
    moved = permute(masked, tf.constant([2, 1, 0, 4, 3]))
    assert lists(split(moved))["ids"] == [[12, 4, 10], [14, 4]]
    np.testing.assert_array_equal(replay(moved, 4), moved.ids)


def test_an_insertion_at_the_end_does_not_affect_the_next_example():
    """Its source is one past the last target, the position of the next example's first token."""
    noised = insert(
        batch([2, 1]), tf.constant([2]), RowPartition.from_row_lengths(tf.constant([1, 0])), tf.constant([4])
    )
    assert lists(split(noised))["source"] == [[1, 2, 3], [1]]
    np.testing.assert_array_equal(replay(noised, 4), noised.ids)
    assert delete(noised, noised.source == 3).target_noise.numpy().tolist() == [1, 1, 3]
