"""The record: from texts to columns and back, and the few ways in which corruptions rearrange it."""

import functools

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

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
from tests.corruption.helpers import traced

SYMBOLS = Symbols(mask_token=4, vocab_size=1000, protected=(0, 1, 2, 3))
NOISE = chain(
    [
        text_infilling(SYMBOLS, mask_prob=0.2, replace_length=0),
        sentence_permutation(SYMBOLS),
        text_infilling(SYMBOLS, span_length="poisson", mean_span_length=1.0),
    ]
)
BATCHES = st.lists(st.integers(0, 9), max_size=5)


def batch(sizes):
    return clean(tf.RaggedTensor.from_row_lengths(10 + tf.range(sum(sizes)), tf.constant(sizes, tf.int64)))


@functools.cache
def traced_noise():
    return traced(NOISE)


def noised_batch(sizes: list[int]) -> Noised:
    """Texts of these lengths with tokens deleted, moved and masked, each at a different step."""
    ids, indices = iter(range(10, 10 + sum(sizes))), range(len(sizes))
    texts = [[next(ids) for _ in range(size)] for size in sizes]
    sentence_ids = [[token // 4 for token in text] for text in texts]
    noised = traced_noise()(texts, [7 + i for i in indices], sentence_ids, [*indices])
    return noised._replace(outputs=noised.targets + 100)  # as if the decoder wrote something else


def assert_equal(one, other):
    for expected, column in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        assert column.dtype == expected.dtype
        np.testing.assert_array_equal(column, expected)


def lists(columns):
    return {name: values.to_list() for name, values in columns.items()}


def test_the_clean_record_of_a_window():
    texts = tf.ragged.constant([[7, 8, 9], [], [7]], tf.int64)
    noised = clean(texts, tf.ragged.constant([[5, 5, 9], [], [9]], tf.int64))
    assert noised.source.numpy().tolist() == [1, 2, 3, 4]
    assert noised.sentence_ids.numpy().tolist() == [1, 1, 2, 3]  # a number does not reach across texts
    assert noised.steps.numpy().tolist() == [LAST_STEP] * 3
    for column in noised:
        assert all(part.dtype == tf.int32 for part in tf.nest.flatten(column)) or column is noised.steps
    columns = lists(split(noised))
    for name in ("ids", "targets", "outputs"):
        assert columns[name] == [[7, 8, 9], [], [7]]
    for name in ("source", "output_source"):
        assert columns[name] == [[1, 2, 3], [], [1]]
    assert columns["span"] == [[2, 2, 2], [], [2]]
    assert columns["op"] == columns["target_noise"] == [[1, 1, 1], [], [1]]


def test_one_text_is_a_window_of_one():
    assert_equal(clean(tf.constant([7, 8])), clean(tf.ragged.constant([[7, 8]], tf.int32)))
    assert clean(tf.constant([7, 8, 9])).sentence_ids.numpy().tolist() == [1, 1, 1]
    assert int(clean(tf.constant([], tf.int32)).partition.nrows) == 1
    assert clean(tf.constant([7, 8]), tf.constant([3, 1])).sentence_ids.numpy().tolist() == [1, 2]


@settings(max_examples=40)
@given(sizes=BATCHES, data=st.data())
def test_selected_examples_are_joined_again(sizes, data):
    """Split, selected and joined: each example keeps its columns, and counts its sources from 1."""
    noised = noised_batch(sizes)
    parts = data.draw(st.lists(st.integers(0, 2), min_size=len(sizes), max_size=len(sizes)))
    examples = [tf.constant([i for i, p in enumerate(parts) if p == part], tf.int32) for part in range(3)]
    selected = [select(noised, own) for own in examples]
    whole = lists(split(noised))
    for own, part in zip(examples, selected, strict=True):
        for name, values in split(part).items():
            assert values.to_list() == [whole[name][i] for i in own.numpy()]
        np.testing.assert_array_equal(part.steps, own)
    joined = join(selected, examples)
    assert_equal(noised._replace(sentence_ids=joined.sentence_ids), joined)


@settings(max_examples=40)
@given(sizes=BATCHES, data=st.data())
def test_insertions_stand_before_their_column(sizes, data):
    noised = noised_batch(sizes)
    before = lists(split(noised))
    length = [len(ids) for ids in before["ids"]]
    places = [sorted(data.draw(st.lists(st.integers(0, n), max_size=3))) for n in length]
    starts = np.cumsum([0, *length])
    columns = [starts[i] + place for i, own in enumerate(places) for place in own]
    ids = tf.range(500, 500 + len(columns))
    partition = RowPartition.from_row_lengths(tf.constant([len(own) for own in places], tf.int32))
    inserted = insert(noised, tf.constant(columns, tf.int32), partition, ids)
    after, new = lists(split(inserted)), iter(range(500, 500 + len(columns)))
    for i, own in enumerate(places):
        expected, sources = [], []
        for place in range(length[i] + 1):
            behind = before["source"][i][place] if place < length[i] else sizes[i] + 1
            expected += [next(new) for _ in range(own.count(place))]
            sources += [behind] * own.count(place)
            expected += before["ids"][i][place : place + 1]
            sources += before["source"][i][place : place + 1]
        assert after["ids"][i] == expected
        assert after["source"][i] == sources
    added = inserted.op.numpy()[inserted.ids.numpy() >= 500] if len(columns) else []
    assert (np.array(added) == Op.INSERT).all()
    assert after["targets"] == before["targets"]


def test_columns_written_deleted_kept_and_moved():
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


def test_an_insertion_at_the_end_marks_nothing_when_written_over():
    """Its source is one past the last target; noise on the token of the next example is not touched."""
    noised = insert(
        batch([2, 1]), tf.constant([2]), RowPartition.from_row_lengths(tf.constant([1, 0])), tf.constant([4])
    )
    assert lists(split(noised))["source"] == [[1, 2, 3], [1]]
    np.testing.assert_array_equal(replay(noised, 4), noised.ids)
    assert delete(noised, noised.source == 3).target_noise.numpy().tolist() == [1, 1, 3]
