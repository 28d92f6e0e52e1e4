"""Batches from logical shards: in shard order, and identical after a restore."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.rates import Linear
from denoise_jax.data import loader
from denoise_jax.errors import DataError
from denoise_jax.target_kinds import TargetKind
from denoise_jax.vocabulary.load import load_vocabulary
from tests.data.helpers import text_task

SIGNATURE = {"text": tf.TensorSpec([], tf.string)}


@pytest.fixture(scope="module")
def own(vocabulary_folder):
    return load_vocabulary(vocabulary_folder)


@pytest.fixture(scope="module")
def texts(speeches):
    """30 documents of some 600 tokens; few, since every loader first fills its shuffle buffer."""
    return [speech[start : start + 2000] for speech in speeches for start in range(0, 20_000, 2000)]


@pytest.fixture
def configure(tiny_config, monkeypatch):
    """configure(task, **fields of DataConfig): registers a task for this test, and configures its reading."""

    def configure(task, **fields):
        monkeypatch.setitem(seqio.TaskRegistry._REGISTRY, task.name, task)
        return tiny_config.data.replace(task=task.name, **fields)

    return configure


@pytest.fixture
def data(configure, own, texts):
    """The texts, in one shard."""
    return configure(text_task("loaded", texts, own).replace(shuffle_buffer_size=64), shards=1)


def assert_equal_batches(first, second):
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.parametrize("name", ["vocabulary_folder", pytest.param("bart_folder", marks=pytest.mark.slow)])
def test_a_restored_loader_continues_exactly_where_it_was(data, name, request):
    vocabulary = load_vocabulary(request.getfixturevalue(name))
    original, undisturbed = (loader.TrainLoader(data, vocabulary) for _ in range(2))
    original.read_first()
    for _ in range(3):
        assert_equal_batches(next(original), next(undisturbed))
    files = original.state()
    expected = [next(original) for _ in range(20)]
    restored = loader.TrainLoader(data, vocabulary)
    restored.restore(files)
    for batch in expected:
        assert_equal_batches(next(restored), batch)
        first = (batch["decoder_positions"] == 0) & (batch["decoder_segment_ids"] > 0)
        assert set(batch["decoder_input_tokens"][first].tolist()) == {vocabulary.start_id}
        if vocabulary.opening_ids:
            assert set(batch["decoder_target_tokens"][first].tolist()) == {*vocabulary.opening_ids}
        assert (batch["encoder_input_tokens"] == vocabulary.mask_id).any()


def test_a_restored_curriculum_continues_at_its_step(configure, own, texts):
    """The saved position in the data includes the count of tokens from which the step is computed."""

    def curriculum(symbols):
        return text_infilling(symbols, mask_prob=Linear(0.0, 1.0, steps=20))

    task = text_task("curriculum", texts, own, curriculum).replace(shuffle_buffer_size=8)
    data = configure(task, tokens_per_step=500, shards=1)
    original = loader.TrainLoader(data, own)
    batches = [next(original) for _ in range(5)]
    files = original.state()
    expected = [next(original) for _ in range(15)]
    seen = 0
    for batch in batches + expected:
        tokens = (batch["decoder_segment_ids"] > 0).sum()
        midpoint = (seen + tokens / 2) / 500
        assert abs(masked_share(batch) - min(midpoint / 20, 1)) < 0.12  # the buffer mixes nearby steps
        seen += tokens
    restored = loader.TrainLoader(data, own)
    restored.restore(files)
    for batch in expected:
        assert_equal_batches(next(restored), batch)


def masked_share(batch) -> float:
    """Share of the target tokens that are masked."""
    kinds = batch["decoder_target_kind"]
    return (kinds == TargetKind.MASKED).sum() / (kinds > 0).sum()


def test_order_does_not_depend_on_the_number_of_hosts(data, own, monkeypatch):
    data = data.replace(shards=2)
    together = loader.TrainLoader(data, own)
    hosts = []
    for host in (0, 1):
        monkeypatch.setattr(loader.jax, "process_count", lambda: 2)
        monkeypatch.setattr(loader.jax, "process_index", lambda host=host: host)
        hosts.append(loader.TrainLoader(data, own))

    def next_of_hosts():
        parts = [next(host) for host in hosts]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    for _ in range(4):
        assert_equal_batches(next(together), next_of_hosts())
    together.restore(hosts[0].state() | hosts[1].state())  # one host resumes at a position saved by two
    assert_equal_batches(next(together), next_of_hosts())


def test_positions_of_other_shards_are_refused(data, own):
    one = loader.TrainLoader(data, own)
    of_four = {name.replace("of-00001", "of-00004"): content for name, content in one.state().items()}
    with pytest.raises(DataError, match="no position for data shard 0 of 1"):
        one.restore(of_four)


def test_sources_without_a_position_are_refused(configure, own):
    def from_python(split, shuffle_files, seed=None):
        return tf.data.Dataset.from_generator(
            lambda: iter([{"text": "A text."}] * 99), output_signature=SIGNATURE
        )

    task = text_task("from_python", [], own, "none")
    task = task.replace(source=seqio.FunctionDataSource(from_python, splits=["train"]))
    with pytest.raises(DataError, match="'from_python' cannot be saved"):
        next(loader.TrainLoader(configure(task, shards=1), own))


def test_every_evaluation_reads_the_same_and_all_of_the_split(data, own):
    first, second = (list(loader.evaluation_batches(data, own, "train", 64)) for _ in (0, 1))
    for one, two in zip(first, second, strict=True):
        assert_equal_batches(one, two)
        assert one["decoder_target_tokens"].shape == (64, 64)
    assert not first[-1]["decoder_segment_ids"][-1].any(), "the last batch is padded with empty rows"
    small = loader.evaluation_batches(data, own, "train", 16)
    counts = [
        sum((batch["decoder_segment_ids"] > 0).sum() for batch in batches) for batches in (first, small)
    ]
    assert counts[0] == counts[1]


def test_an_evaluation_reads_shards_that_end_at_different_batches_to_their_ends(configure, own, texts):
    data = configure(text_task("uneven", texts[:5], own))
    counts = {}
    for shards in (1, 4):  # the first of the four has two texts
        batches = list(loader.evaluation_batches(data, own, "train", 4, num_shards=shards))
        counts[shards] = sum((batch["decoder_target_kind"] > 0).sum() for batch in batches)
    assert counts[4] == counts[1]
    filled = np.array([batch["decoder_segment_ids"].any(axis=1) for batch in batches])
    assert filled[:, 0].sum() > filled[:, 1].sum()


def test_packing_can_be_turned_off(data, own):
    batch = next(loader.TrainLoader(data.replace(pack=False), own))
    assert batch["decoder_segment_ids"].max() == 1


@pytest.mark.parametrize("documents", [1, 3])
def test_fewer_texts_than_shards_are_refused(configure, own, texts, documents):
    data = configure(text_task("few", texts[:documents], own), shards=4)
    with pytest.raises(DataError, match=f"no text for data shard {documents} of 4: .* set data.shards lower"):
        next(loader.TrainLoader(data, own))


def _write_records(file, texts):
    with tf.io.TFRecordWriter(str(file)) as writer:
        for text in texts:
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))
            example = tf.train.Example(features=tf.train.Features(feature={"text": feature}))
            writer.write(example.SerializeToString())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-9], "truncated record at"),
        (lambda content: content[:20] + b"?" + content[21:], "corrupted record at"),
    ],
)
def test_damaged_files_are_reported_in_one_line(configure, own, texts, tmp_path, damage, message):
    file = tmp_path / "texts.tfrecord"
    _write_records(file, texts)
    file.write_bytes(damage(file.read_bytes()))
    features = {"text": tf.io.FixedLenFeature([], tf.string)}
    source = seqio.TFExampleDataSource({"train": str(file)}, features)
    data = configure(text_task("damaged", [], own).replace(source=source), shards=1)
    for read in (
        lambda: next(loader.TrainLoader(data, own)),
        lambda: list(loader.evaluation_batches(data, own, "train", 16)),
    ):
        with pytest.raises(DataError, match=f"task 'damaged' cannot be read: {message}") as caught:
            read()
        assert not any(mark in str(caught.value) for mark in ("\n", "{{", "[Op:"))
