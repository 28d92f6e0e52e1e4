"""Greedy groups against a plain loop."""

import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from denoise_jax.data.grouping import greedy_groups

groups_of = tf.function(
    greedy_groups,
    input_signature=[
        [tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.int32)],
        [tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.int32)],
    ],
)


def groups_by_loop(sides, limits):
    groups, totals, group = [], [0, 0], 0
    for item, lengths in enumerate(zip(*sides, strict=True)):
        if item and any(t + n > limit for t, n, limit in zip(totals, lengths, limits, strict=True)):
            group, totals = group + 1, [0, 0]
        totals = [t + n for t, n in zip(totals, lengths, strict=True)]
        groups.append(group)
    return groups


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), max_size=60),
    st.integers(1, 30),
    st.integers(1, 30),
)
def test_groups_are_those_of_a_plain_loop(items, first, second):
    sides = [np.array([item[i] for item in items], np.int32) for i in (0, 1)]
    found = groups_of([tf.constant(s) for s in sides], [tf.constant(first), tf.constant(second)])
    np.testing.assert_array_equal(found.numpy(), groups_by_loop(sides, [first, second]))
