"""Every preset: the same bits however it is run, noise that depends on key and text alone, and its name."""

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption import presets
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.record import Noised, Op, clean, split
from denoise_jax.corruption.symbols import Symbols

LENGTHS = [[5, 7, 12, 3], [], [1], [4, 4], [2], [9, 1, 1, 8]]  # of the sentences of each text
SENTENCES = [np.repeat(np.arange(1, 1 + len(own)), own).tolist() for own in LENGTHS]
TEXTS = [[10 + 50 * i + place for place in range(len(own))] for i, own in enumerate(SENTENCES)]
KEYS = [3, -5, 2**62, 7, 8, 3]


@pytest.fixture(scope="module")
def built(symbols, traced):
    """built(name): the preset, and the same traced once for windows of any size."""
    made = {}

    def get(name):
        if name not in made:
            corrupt = presets.build(name, symbols, max_tokens=64)
            made[name] = corrupt, traced(corrupt)
        return made[name]

    return get


def columns(noised: Noised) -> list[dict[str, list[int]]]:
    """The columns of each example, as lists."""
    ragged = {name: values.to_list() for name, values in split(noised).items()}
    return [{name: values[i] for name, values in ragged.items()} for i in range(int(noised.partition.nrows))]


def windows_of_keys() -> tf.Tensor:
    return tf.constant(KEYS, tf.int64) + tf.range(6, dtype=tf.int64)[:, tf.newaxis]


def mapped(run, parallel) -> list[list[np.ndarray]]:
    """The columns of each window of keys, out of tf.data with that many parallel calls."""
    dataset = tf.data.Dataset.from_tensor_slices(windows_of_keys()).map(
        lambda keys: tuple(tf.nest.flatten(run(TEXTS, keys, SENTENCES))), num_parallel_calls=parallel
    )
    return [list(row) for row in dataset.as_numpy_iterator()]


@pytest.mark.parametrize("name", presets.PRESETS)
def test_eager_graph_and_dataset_agree(built, name):
    corrupt, run = built(name)
    keys = windows_of_keys()
    graph = [[column.numpy() for column in tf.nest.flatten(run(TEXTS, own, SENTENCES))] for own in keys]
    texts, sentences = (tf.ragged.constant(rows, tf.int32, ragged_rank=1) for rows in (TEXTS, SENTENCES))
    eager = corrupt(clean(texts, sentences, tf.zeros([6], tf.int64)), keys[0])
    np.testing.assert_equal([column.numpy() for column in tf.nest.flatten(eager)], graph[0])
    np.testing.assert_equal(mapped(run, 4), graph)


@pytest.mark.parametrize("name", ["bart_paper", "t5_span", "xlm"])
def test_any_parallelism_agrees(built, name):
    """A few presets stand for all: parallel calls are the dataset's affair, not the noise's."""
    _, run = built(name)
    alone = mapped(run, None)
    for parallel in (1, 2, tf.data.AUTOTUNE):
        np.testing.assert_equal(mapped(run, parallel), alone)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_noise_depends_on_an_examples_own_key_and_text_alone(built, audit, examples, name):
    """Alone, or anywhere in any window."""
    _, run = built(name)
    noised = run(TEXTS, KEYS, SENTENCES)
    for row in examples(noised):
        audit(row)
    window = columns(noised)
    for order in ([5, 4, 3, 2, 1, 0], [2, 0, 0, 5], [1], *([i] for i in range(6))):
        other = run([TEXTS[i] for i in order], [KEYS[i] for i in order], [SENTENCES[i] for i in order])
        assert columns(other) == [window[i] for i in order]
    assert columns(run([], [])) == []


@pytest.mark.parametrize("name", sorted({*presets.PRESETS} - {"none"}))
def test_keys_matter(built, name):
    _, run = built(name)
    noised = [columns(run(TEXTS[:1] * 8, [seed + k for k in range(8)], SENTENCES[:1] * 8)) for seed in (0, 8)]
    ids = {str(row["ids"]) + str(row["outputs"]) for rows in noised for row in rows}
    # The choice of the sentences most like the rest of a text is no draw at all.
    assert (len(ids) == 1) == (name == "pegasus")


def test_presets_are_documented_and_named(symbols):
    for preset in presets.PRESETS.values():
        assert len(preset.documentation) > 60
    with pytest.raises(CorruptionError, match=r"'bart_papr'.*bart_paper"):
        presets.build("bart_papr", symbols)
    with pytest.raises(CorruptionError, match=r"'xyz'.*bart_paper"):
        presets.build("xyz", symbols)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("t5_span", "sentinels, and the vocabulary has 0"),
        ("ul2", r"mode_token='\[R\]'.*it has none"),
        ("document_rotation_sentinel", "rotation_token"),
    ],
)
def test_a_vocabulary_without_the_symbols_that_a_preset_needs_is_refused(name, message):
    with pytest.raises(CorruptionError, match=message):
        presets.build(name, Symbols(mask_token=4, vocab_size=1000))


def test_the_noise_of_bart_is_told_by_the_paper(built, examples):
    """30 % of each text, rounded up, behind masks; sentences in another order."""
    for ids, row in zip(TEXTS, examples(built("bart_paper")[1](TEXTS, KEYS, SENTENCES)), strict=True):
        assert (row.target_noise == 2).sum() == -(-3 * len(ids) // 10)
        assert set(row.op.tolist()) <= {Op.KEEP, Op.MASK, Op.INSERT}
