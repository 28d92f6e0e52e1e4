"""Batches from logical shards: in shard order, and exactly the same after a restore."""

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

SIGNATURE = {"text": tf.TensorSpec([], tf.string)}


@pytest.fixture(scope="module")
def own(vocabulary_folder):
    return load_vocabulary(vocabulary_folder)


def _assert_same(first, second):
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_goes_on_exactly_where_it_was(tiny_config, own):
    original = loader.TrainLoader(tiny_config.data, own)
    for _ in range(3):
        next(original)
    files = original.state()
    expected = [next(original) for _ in range(20)]
    restored = loader.TrainLoader(tiny_config.data, own)
    restored.restore(files)
    for batch in expected:
        _assert_same(next(restored), batch)


def test_a_curriculum_rises_with_the_steps_and_goes_on_where_it_was(tiny_config, own):
    """The position in the data holds the count of tokens that the schedule is read at."""

    def curriculum(symbols):
        return text_infilling(symbols, mask_prob=Linear(0.0, 1.0, steps=20))

    if "curriculum" not in seqio.TaskRegistry.names():
        seqio.TaskRegistry.add(
            "curriculum",
            source=registry.find_task("quickstart", ["tasks"]).source,
            preprocessors=preprocessors.denoising("curriculum", curriculum),
            output_features=preprocessors.output_features(str(own.path)),
            shuffle_buffer_size=8,
        )
    config = tiny_config.data.model_copy(update={"task": "curriculum", "tokens_per_step": 500})
    original = loader.TrainLoader(config, own)
    batches = [next(original) for _ in range(5)]
    files = original.state()
    expected = [next(original) for _ in range(15)]
    seen = 0
    for batch in batches + expected:
        tokens = (batch["decoder_segment_ids"] > 0).sum()
        half_way = (seen + tokens / 2) / 500
        assert abs(_masked(batch) - min(half_way / 20, 1)) < 0.12  # the buffer mixes pieces of near steps
        seen += tokens
    restored = loader.TrainLoader(config, own)
    restored.restore(files)
    for batch in expected:
        _assert_same(next(restored), batch)


def _masked(batch) -> float:
    """Share of the target tokens that are masked."""
    kinds = batch["decoder_target_kind"]
    return (kinds == TargetKind.MASKED).sum() / (kinds > 0).sum()


@pytest.mark.slow
def test_order_does_not_depend_on_how_many_hosts_read(tiny_config, own, monkeypatch):
    together = loader.TrainLoader(tiny_config.data, own)
    apart = []
    for host in (0, 1):
        monkeypatch.setattr(loader.jax, "process_count", lambda: 2)
        monkeypatch.setattr(loader.jax, "process_index", lambda host=host: host)
        apart.append(loader.TrainLoader(tiny_config.data, own))
    for _ in range(4):
        parts = [next(one) for one in apart]
        _assert_same(next(together), {k: np.concatenate([part[k] for part in parts]) for k in parts[0]})
    # and a position saved by two hosts is taken up by one
    files = apart[0].state() | apart[1].state()
    together.restore(files)
    parts = [next(one) for one in apart]
    _assert_same(next(together), {k: np.concatenate([part[k] for part in parts]) for k in parts[0]})


@pytest.mark.slow
def test_position_of_other_shards_is_refused(tiny_config, own):
    files = loader.TrainLoader(tiny_config.data, own).state()
    four = tiny_config.data.model_copy(update={"shards": 4})
    with pytest.raises(DataError, match="no position for data shard 0 of 4"):
        loader.TrainLoader(four, own).restore(files)


def test_source_without_a_position_is_refused(tiny_config, own):
    def from_python(split, shuffle_files, seed=None):
        return tf.data.Dataset.from_generator(
            lambda: iter([{"text": "A text."}] * 99), output_signature=SIGNATURE
        )

    if "from_python" not in seqio.TaskRegistry.names():
        seqio.TaskRegistry.add(
            "from_python",
            source=seqio.FunctionDataSource(from_python, splits=["train"]),
            preprocessors=preprocessors.denoising("from_python", "none"),
            output_features=preprocessors.output_features(str(own.path)),
        )
    with pytest.raises(DataError, match="'from_python' cannot be saved"):
        next(loader.TrainLoader(tiny_config.data.model_copy(update={"task": "from_python"}), own))


def test_evaluation_is_the_same_every_time_and_whole(tiny_config, own):
    first, second = (list(loader.evaluation_batches(tiny_config.data, own, "test", 512)) for _ in (0, 1))
    for one, two in zip(first, second, strict=True):
        _assert_same(one, two)
        assert one["decoder_target_tokens"].shape == (512, 64)
    assert not first[-1]["decoder_segment_ids"][-1].any(), "the last batch is filled up with empty rows"
    small = loader.evaluation_batches(tiny_config.data, own, "test", 16)
    counts = [
        sum((batch["decoder_segment_ids"] > 0).sum() for batch in batches) for batches in (first, small)
    ]
    assert counts[0] == counts[1]


def test_packing_can_be_turned_off(tiny_config, own):
    batch = next(loader.TrainLoader(tiny_config.data.model_copy(update={"pack": False}), own))
    assert batch["decoder_segment_ids"].max() == 1
