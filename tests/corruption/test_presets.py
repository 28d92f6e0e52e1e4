"""Every preset: identical results however it is run, and noise that depends only on key and text."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption import presets
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.record import Corruption, Noised, Op, split
from denoise_jax.corruption.symbols import Symbols
from tests.corruption.helpers import SYMBOLS, audit, batch_of, examples_of, traced

LENGTHS = [[5, 7, 12, 3], [], [1], [4, 4], [2], [9, 1, 1, 8]]  # of the sentences of each text
SENTENCES = [np.repeat(np.arange(1, 1 + len(own)), own).tolist() for own in LENGTHS]
TEXTS = [[10 + 50 * i + position for position in range(len(own))] for i, own in enumerate(SENTENCES)]
KEYS = [3, -5, 2**62, 7, 8, 3]


@functools.cache
def built(name: str) -> tuple[Corruption, Callable[..., Noised]]:
    """The preset, and the same traced once for batches of any size; see `helpers.traced`."""
    corruption = presets.build(name, SYMBOLS, max_tokens=64)
    return corruption, traced(corruption)


def fields_of(noised: Noised) -> list[dict[str, list[int]]]:
    """The fields of each example, as lists."""
    ragged = {name: values.to_list() for name, values in split(noised).items()}
    return [{name: values[i] for name, values in ragged.items()} for i in range(int(noised.partition.nrows))]


def arrays(noised: Noised) -> list[np.ndarray]:
    return [field.numpy() for field in tf.nest.flatten(noised)]


def batches_of_keys() -> tf.Tensor:
    return tf.constant(KEYS, tf.int64) + tf.range(6, dtype=tf.int64)[:, tf.newaxis]


def mapped(run, parallel) -> list[list[np.ndarray]]:
    """The fields of each batch of keys, from tf.data with that many parallel calls."""
    dataset = tf.data.Dataset.from_tensor_slices(batches_of_keys()).map(
        lambda keys: tuple(tf.nest.flatten(run(TEXTS, keys, SENTENCES))), num_parallel_calls=parallel
    )
    return [list(example) for example in dataset.as_numpy_iterator()]


@pytest.mark.parametrize("name", presets.PRESETS)
def test_eager_and_graph_agree(name):
    """test_determinism.py has every kind of noise in tf.data as well."""
    corrupt, run = built(name)
    eager = corrupt(batch_of(TEXTS, SENTENCES, steps=tf.zeros([6], tf.int64)), tf.constant(KEYS, tf.int64))
    np.testing.assert_equal(arrays(eager), arrays(run(TEXTS, KEYS, SENTENCES)))


@pytest.mark.parametrize("name", ["bart_paper", "t5_span", "xlm"])
def test_datasets_of_any_parallelism_agree(name):
    """Checked for a few presets only, since parallel calls are up to the dataset and not to the noise."""
    _, run = built(name)
    expected = [arrays(run(TEXTS, keys, SENTENCES)) for keys in batches_of_keys()]
    for parallel in (None, 2, tf.data.AUTOTUNE):
        np.testing.assert_equal(mapped(run, parallel), expected)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_noise_depends_only_on_the_examples_key_and_text(name):
    """Alone, or anywhere in any batch."""
    _, run = built(name)
    noised = run(TEXTS, KEYS, SENTENCES)
    for example in examples_of(noised):
        audit(example)
    batch = fields_of(noised)
    for order in ([5, 4, 3, 2, 1, 0], [2, 0, 0, 5], [1], *([i] for i in range(6))):
        other = run([TEXTS[i] for i in order], [KEYS[i] for i in order], [SENTENCES[i] for i in order])
        assert fields_of(other) == [batch[i] for i in order]
    assert fields_of(run([], [])) == []


@pytest.mark.parametrize("name", sorted({*presets.PRESETS} - {"none"}))
def test_keys_matter(name):
    _, run = built(name)
    noised = [
        fields_of(run(TEXTS[:1] * 8, [seed + k for k in range(8)], SENTENCES[:1] * 8)) for seed in (0, 8)
    ]
    ids = {str(example["ids"]) + str(example["outputs"]) for examples in noised for example in examples}
    # The sentences most similar to the rest of a text are not drawn at random.
    assert (len(ids) == 1) == (name == "pegasus")


def test_presets_are_documented_and_named():
    for preset in presets.PRESETS.values():
        assert len(preset.documentation) > 60
    with pytest.raises(CorruptionError, match=r"'bart_papr'.*bart_paper"):
        presets.build("bart_papr", SYMBOLS)
    with pytest.raises(CorruptionError, match=r"'xyz'.*bart_paper"):
        presets.build("xyz", SYMBOLS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("t5_span", "sentinels, but the vocabulary has 0"),
        ("ul2", r"mode_token='\[R\]'.*it has none"),
        ("document_rotation_sentinel", "rotation_token"),
    ],
)
def test_a_vocabulary_without_the_necessary_special_tokens_is_refused(name, message):
    with pytest.raises(CorruptionError, match=message):
        presets.build(name, Symbols(mask_token=4, vocab_size=1000))


def test_bart_paper_hides_30_percent_of_every_text():
    for ids, example in zip(TEXTS, examples_of(built("bart_paper")[1](TEXTS, KEYS, SENTENCES)), strict=True):
        assert (example.target_noise == 2).sum() == -(-3 * len(ids) // 10)
        assert set(example.op.tolist()) <= {Op.KEEP, Op.MASK, Op.INSERT}
