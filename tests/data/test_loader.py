"""Batches from logical shards: in shard order, and identical after a restore."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.rates import Linear
from denoise_jax.data import loader, preprocessors, registry
from denoise_jax.errors import DataError
from denoise_jax.target_kinds import TargetKind
from denoise_jax.vocabulary.load import load_vocabulary
from tests.data.helpers import text_task

SIGNATURE = {"text": tf.TensorSpec([], tf.string)}


@pytest.fixture(scope="module")
def own(vocabulary_folder):
    return load_vocabulary(vocabulary_folder)


def assert_equal_batches(first, second):
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def registered(monkeypatch, task):
    """Registers a task for the duration of a test."""
    monkeypatch.setitem(seqio.TaskRegistry._REGISTRY, task.name, task)


@pytest.mark.parametrize("name", ["vocabulary_folder", "bart_folder"])
def test_a_restored_loader_continues_exactly_where_it_was(tiny_config, name, request):
    vocabulary = load_vocabulary(request.getfixturevalue(name))
    original = loader.TrainLoader(tiny_config.data, vocabulary)
    for _ in range(3):
        next(original)
    files = original.state()
    expected = [next(original) for _ in range(10)]
    restored = loader.TrainLoader(tiny_config.data, vocabulary)
    restored.restore(files)
    for batch in expected:
        assert_equal_batches(next(restored), batch)
        first = (batch["decoder_positions"] == 0) & (batch["decoder_segment_ids"] > 0)
        assert set(batch["decoder_input_tokens"][first].tolist()) == {vocabulary.start_id}
        if vocabulary.opening_ids:
            assert set(batch["decoder_target_tokens"][first].tolist()) == {*vocabulary.opening_ids}
        assert (batch["encoder_input_tokens"] == vocabulary.mask_id).any()


def test_a_restored_curriculum_continues_at_its_step(tiny_config, own, monkeypatch):
    """The saved position in the data includes the count of tokens from which the step is computed."""

    def curriculum(symbols):
        return text_infilling(symbols, mask_prob=Linear(0.0, 1.0, steps=20))

    task = seqio.Task(
        "curriculum",
        source=registry.find_task("quickstart", ["tasks"]).source,
        preprocessors=preprocessors.denoising("curriculum", curriculum),
        output_features=preprocessors.output_features(own),
        shuffle_buffer_size=8,
    )
    registered(monkeypatch, task)
    config = tiny_config.data.model_copy(update={"task": "curriculum", "tokens_per_step": 500})
    original = loader.TrainLoader(config, own)
    batches = [next(original) for _ in range(5)]
    files = original.state()
    expected = [next(original) for _ in range(15)]
    seen = 0
    for batch in batches + expected:
        tokens = (batch["decoder_segment_ids"] > 0).sum()
        midpoint = (seen + tokens / 2) / 500
        assert (
            abs(_masked(batch) - min(midpoint / 20, 1)) < 0.12
        )  # the shuffle buffer mixes chunks of nearby steps
        seen += tokens
    restored = loader.TrainLoader(config, own)
    restored.restore(files)
    for batch in expected:
        assert_equal_batches(next(restored), batch)


def _masked(batch) -> float:
    """Share of the target tokens that are masked."""
    kinds = batch["decoder_target_kind"]
    return (kinds == TargetKind.MASKED).sum() / (kinds > 0).sum()


@pytest.mark.slow
def test_order_does_not_depend_on_the_number_of_hosts(tiny_config, own, monkeypatch):
    together = loader.TrainLoader(tiny_config.data, own)
    apart = []
    for host in (0, 1):
        monkeypatch.setattr(loader.jax, "process_count", lambda: 2)
        monkeypatch.setattr(loader.jax, "process_index", lambda host=host: host)
        apart.append(loader.TrainLoader(tiny_config.data, own))
    for _ in range(4):
        parts = [next(one) for one in apart]
        assert_equal_batches(
            next(together), {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
        )
    # and one host resumes at a position saved by two
    files = apart[0].state() | apart[1].state()
    together.restore(files)
    parts = [next(one) for one in apart]
    assert_equal_batches(next(together), {k: np.concatenate([part[k] for part in parts]) for k in parts[0]})


@pytest.mark.slow
def test_positions_of_other_shards_are_refused(tiny_config, own):
    files = loader.TrainLoader(tiny_config.data, own).state()
    four = tiny_config.data.model_copy(update={"shards": 4})
    with pytest.raises(DataError, match="no position for data shard 0 of 4"):
        loader.TrainLoader(four, own).restore(files)


def test_sources_without_a_position_are_refused(tiny_config, own, monkeypatch):
    def from_python(split, shuffle_files, seed=None):
        return tf.data.Dataset.from_generator(
            lambda: iter([{"text": "A text."}] * 99), output_signature=SIGNATURE
        )

    task = text_task("from_python", [], own, "none")
    task = task.replace(source=seqio.FunctionDataSource(from_python, splits=["train"]))
    registered(monkeypatch, task)
    with pytest.raises(DataError, match="'from_python' cannot be saved"):
        next(loader.TrainLoader(tiny_config.data.model_copy(update={"task": "from_python"}), own))


def test_every_evaluation_reads_the_same_and_all_of_the_split(tiny_config, own):
    first, second = (list(loader.evaluation_batches(tiny_config.data, own, "test", 512)) for _ in (0, 1))
    for one, two in zip(first, second, strict=True):
        assert_equal_batches(one, two)
        assert one["decoder_target_tokens"].shape == (512, 64)
    assert not first[-1]["decoder_segment_ids"][-1].any(), "the last batch is padded with empty rows"
    small = loader.evaluation_batches(tiny_config.data, own, "test", 16)
    counts = [
        sum((batch["decoder_segment_ids"] > 0).sum() for batch in batches) for batches in (first, small)
    ]
    assert counts[0] == counts[1]


def test_packing_can_be_turned_off(tiny_config, own):
    batch = next(loader.TrainLoader(tiny_config.data.model_copy(update={"pack": False}), own))
    assert batch["decoder_segment_ids"].max() == 1
