"""Rows hold every example completely and in order, with the segment of every token."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.data.packing import DenoisingFeatureConverter
from denoise_jax.target_kinds import TargetKind

INPUTS, TARGETS, BOS = 20, 24, 3


def _examples(count=200, seed=0):
    """Examples of 1 to 9 inputs and 1 to 12 targets; ids identify example and side."""
    random = np.random.default_rng(seed)
    for index in range(count):
        sizes = random.integers(1, 10), random.integers(1, 13)
        yield {
            "inputs": np.full(sizes[0], 10_000 + index, np.int32),
            "targets": np.arange(sizes[1], dtype=np.int32) + 100 * (index + 1),
            "targets_kind": random.integers(1, 7, sizes[1]).astype(np.int32),
        }


def _rows(pack, examples, examples_per_batch=64, **specs):
    spec = {k: tf.TensorSpec([None], tf.int32) for k in examples[0]} | specs
    dataset = tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=spec)
    converter = DenoisingFeatureConverter(pack=pack, bos_id=BOS, examples_per_batch=examples_per_batch)
    return list(converter(dataset, {"inputs": INPUTS, "targets": TARGETS}).as_numpy_iterator())


@pytest.mark.parametrize("pack", [True, False])
def test_every_example_is_whole_and_in_order(pack):
    examples = list(_examples())
    remaining = iter(examples)
    for row in _rows(pack, examples):
        segments = row["decoder_segment_ids"].max()
        assert segments == row["encoder_segment_ids"].max() >= 1
        assert pack or segments == 1
        for segment in range(1, segments + 1):
            example = next(remaining)
            encoder, decoder = row["encoder_segment_ids"] == segment, row["decoder_segment_ids"] == segment
            np.testing.assert_array_equal(row["encoder_input_tokens"][encoder], example["inputs"])
            np.testing.assert_array_equal(row["decoder_target_tokens"][decoder], example["targets"])
            np.testing.assert_array_equal(row["decoder_target_kind"][decoder], example["targets_kind"])
            shifted = [BOS, *example["targets"][:-1]]
            np.testing.assert_array_equal(row["decoder_input_tokens"][decoder], shifted)
            np.testing.assert_array_equal(row["encoder_positions"][encoder], range(encoder.sum()))
            np.testing.assert_array_equal(row["decoder_positions"][decoder], range(decoder.sum()))
        for name, values in row.items():
            padding = row[name.split("_")[0] + "_segment_ids"] == 0
            assert not values[padding].any(), name
    assert next(remaining, None) is None


def test_packing_fills_rows():
    examples = list(_examples())
    packed, unpacked = _rows(True, examples), _rows(False, examples)
    assert len(packed) < 0.4 * len(unpacked)
    for row, following in itertools.pairwise(packed[:60]):
        used = [(side > 0).sum() for side in (row["encoder_segment_ids"], row["decoder_segment_ids"])]
        more = [
            (side == 1).sum() for side in (following["encoder_segment_ids"], following["decoder_segment_ids"])
        ]
        fits = used[0] + more[0] <= INPUTS and used[1] + more[1] <= TARGETS
        assert not fits or following["encoder_input_tokens"][0] % 64 == 10_000 % 64, (
            "only a batch may end early"
        )


def test_lengths_and_dtypes():
    for row in _rows(True, list(_examples(50))):
        for name, values in row.items():
            assert values.dtype == np.int32
            assert values.shape == ((INPUTS,) if name.startswith("encoder") else (TARGETS,))


def test_without_kinds_everything_counts_as_masked():
    examples = [{k: e[k] for k in ("inputs", "targets")} for e in _examples(5)]
    for row in _rows(False, examples):
        assert set(row["decoder_target_kind"][row["decoder_segment_ids"] > 0]) == {TargetKind.MASKED}


@pytest.mark.parametrize("size", [1, None])
def test_an_example_may_set_its_decoder_start(size):
    examples = [{**e, "decoder_start": np.array([7 + i], np.int32)} for i, e in enumerate(_examples(50))]
    starts = []
    for row in _rows(True, examples, decoder_start=tf.TensorSpec([size], tf.int32)):
        first = (row["decoder_positions"] == 0) & (row["decoder_segment_ids"] > 0)
        starts += row["decoder_input_tokens"][first].tolist()
        later = row["decoder_positions"] > 0
        np.testing.assert_array_equal(
            row["decoder_input_tokens"][later], row["decoder_target_tokens"][np.roll(later, -1)]
        )
    assert starts == [7 + i for i in range(50)]


def test_empty_targets_pack():
    """As in some evaluation tasks; they do not affect the next example."""
    examples = [{k: e[k] for k in ("inputs", "targets")} for e in _examples(20)]
    for example in examples[::3]:
        example["targets"] = example["targets"][:0]
    for row in _rows(True, examples):
        later = row["decoder_positions"] > 0
        np.testing.assert_array_equal(
            row["decoder_input_tokens"][later], row["decoder_target_tokens"][np.roll(later, -1)]
        )
        first = (row["decoder_positions"] == 0) & (row["decoder_segment_ids"] > 0)
        assert (row["decoder_input_tokens"][first] == BOS).all()


def test_other_features_are_dropped():
    examples = [{**e, "inputs_source": e["inputs"], "number": np.int32(3)} for e in _examples(50)]
    rows = _rows(True, examples, number=tf.TensorSpec([], tf.int32))
    assert {name: values.tolist() for name, values in rows[0].items()} == {
        name: values.tolist() for name, values in _rows(True, list(_examples(50)))[0].items()
    }


def _class_examples(count=60):
    random = np.random.default_rng(1)
    for index in range(count):
        inputs = 100 * (index + 1) + np.arange(random.integers(1, 10), dtype=np.int32)
        yield {"inputs": inputs, "targets": np.array([index % 3], np.int32)}


def _class_rows(pack, examples, size=None):
    spec = {"inputs": tf.TensorSpec([None], tf.int32), "targets": tf.TensorSpec([size], tf.int32)}
    dataset = tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=spec)
    converter = DenoisingFeatureConverter(pack=pack, bos_id=BOS, num_classes=3)
    return list(converter(dataset, {"inputs": INPUTS, "targets": TARGETS}).as_numpy_iterator())


@pytest.mark.parametrize("size", [1, None])
@pytest.mark.parametrize("pack", [True, False])
def test_the_class_is_the_target_of_the_last_token(pack, size):
    examples = list(_class_examples())
    remaining = iter(examples)
    for row in _class_rows(pack, examples, size):
        for segment in range(1, row["encoder_segment_ids"].max() + 1):
            example = next(remaining)
            encoder, decoder = row["encoder_segment_ids"] == segment, row["decoder_segment_ids"] == segment
            before = [0] * (len(example["inputs"]) - 1)
            np.testing.assert_array_equal(row["encoder_input_tokens"][encoder], example["inputs"])
            shifted = [BOS, *example["inputs"][:-1]]
            np.testing.assert_array_equal(row["decoder_input_tokens"][decoder], shifted)
            np.testing.assert_array_equal(row["decoder_positions"][decoder], range(decoder.sum()))
            np.testing.assert_array_equal(
                row["decoder_target_tokens"][decoder], [*before, *example["targets"]]
            )
            np.testing.assert_array_equal(row["decoder_target_kind"][decoder], [*before, TargetKind.MASKED])
    assert next(remaining, None) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": np.array([3], np.int32)}, r"classes must be 0 to 2 .* \[0\] \[to\] \[3\]"),
        ({"targets": np.array([-1], np.int32)}, r"classes must be 0 to 2 .* \[-1\] \[to\] \[2\]"),
        ({"targets": np.array([1, 2], np.int32)}, "one class as its targets"),
        ({"inputs": np.array([], np.int32)}, "an example needs inputs"),
    ],
)
def test_targets_that_are_not_one_known_class_are_refused(change, message):
    examples = list(_class_examples(20))
    examples[7] |= change
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        _class_rows(True, examples)


@pytest.mark.parametrize(
    ("inputs", "place"), [([8, 9, 1], 2), ([8, 9, 1, 5], 2), ([5, 8, 1, 1, 9, 1], 5), ([8, 9], 1)], ids=str
)
def test_a_class_is_predicted_at_the_last_end_of_its_text(inputs, place):
    """A language may follow </s>, as in mBART; pairs have several."""
    features = {"inputs": np.array(inputs, np.int32), "targets": np.array([2], np.int32)}
    spec = {name: tf.TensorSpec([None], tf.int32) for name in features}
    dataset = tf.data.Dataset.from_generator(lambda: [features], output_signature=spec)
    converter = DenoisingFeatureConverter(pack=True, num_classes=3)
    (row,) = converter(dataset, {"inputs": 8, "targets": 8}).as_numpy_iterator()
    assert np.flatnonzero(row["decoder_target_kind"]).tolist() == [place]
    assert row["decoder_target_tokens"][place] == 2
