"""Tasks are found by name, take another vocabulary, and are bound to how they are read."""

import functools
import math
from fractions import Fraction

import numpy as np
import pytest
import seqio
import tensorflow as tf

from denoise_jax.corruption import presets
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.presets import PRESETS
from denoise_jax.corruption.rates import Linear
from denoise_jax.data import preprocessors, registry
from denoise_jax.data.packing import DenoisingFeatureConverter
from denoise_jax.data.preprocessors import Reading
from denoise_jax.errors import DataError
from denoise_jax.target_kinds import TargetKind
from denoise_jax.vocabulary.base import EOS_ID
from denoise_jax.vocabulary.load import load_vocabulary
from denoise_jax.vocabulary.seqio import of_seqio
from tests.data.helpers import open_task, read_task, text_task


@pytest.fixture(scope="module")
def own(vocabulary_folder):
    return load_vocabulary(vocabulary_folder)


def mixture_of(texts, vocabulary, corruption, rates, language=None):
    """Tasks over the same texts whose own vocabulary does not exist, with `vocabulary` instead."""
    tasks = [
        text_task(f"mixed_{index}", texts, "nowhere", corruption, language) for index in range(len(rates))
    ]
    return registry.with_vocabulary(seqio.Mixture("mixed", list(zip(tasks, rates, strict=True))), vocabulary)


def test_unknown_tasks_modules_and_splits_are_refused(vocabulary_folder):
    with pytest.raises(DataError, match="did you mean quickstart"):
        registry.find_task("quickstrat", ["tasks"])
    with pytest.raises(DataError, match="cannot import 'no_such_module'"):
        registry.find_task("quickstart", ["no_such_module"])
    with pytest.raises(DataError, match="no split 'dev'; it has test, train, validation"):
        registry.check_splits(registry.find_task("quickstart", ["tasks"]), ["dev"])
    empty = text_task("empty", [], vocabulary_folder).replace(
        source=seqio.FileDataSource(tf.data.TextLineDataset, {"train": []})
    )
    with pytest.raises(DataError, match="corpus of task 'empty', split 'train', is empty"):
        registry.check_splits(empty, ["train"])


def test_every_preset_has_a_quickstart_task():
    registry.find_task("quickstart", ["tasks"])
    assert {f"quickstart_{preset}" for preset in PRESETS} <= set(seqio.TaskRegistry.names())


def test_centuries_are_sampled_by_size_to_the_power_of_seven_tenths():
    mixture = registry.find_task("quickstart_mbart_centuries", ["tasks"])
    counts = np.array([task.num_input_examples("train") for task in mixture.tasks])
    expected = counts**0.7 / np.sum(counts**0.7)
    assert registry.shares(mixture) == pytest.approx(
        {task.name: share for task, share in zip(mixture.tasks, expected, strict=True)}
    )
    assert sum(counts) == registry.find_task("quickstart", ["tasks"]).num_input_examples("train")


def test_a_found_task_carries_the_given_vocabulary(own):
    for name in ("quickstart", "quickstart_kinds"):
        found = registry.find_task(name, ["tasks"], own)
        assert of_seqio(found.output_features["targets"].vocabulary) is own


def test_class_labels_keep_their_vocabulary(own, bart_folder):
    labels = seqio.Feature(seqio.PassThroughVocabulary(3), add_eos=False, dtype=tf.int32)
    task = text_task("labelled", [], bart_folder)
    task = task.replace(output_features={**task.output_features, "targets": labels})
    replaced = registry.with_vocabulary(task, own).output_features
    assert replaced["targets"] == labels
    assert of_seqio(replaced["inputs"].vocabulary) is own


def test_a_plain_seqio_vocabulary_works_and_is_replaced(vocabulary_folder, speeches, bart_folder):
    plain = seqio.SentencePieceVocabulary(str(vocabulary_folder / "sentencepiece.model"))
    feature = seqio.Feature(plain, add_eos=True, dtype=tf.int32)
    task = text_task("plain", speeches[:1], vocabulary_folder)
    with_plain = task.replace(output_features={"inputs": feature, "targets": feature})
    for one, two in zip(read_task(task), read_task(with_plain), strict=True):
        np.testing.assert_array_equal(one["inputs"], two["inputs"])
    bart = load_vocabulary(bart_folder)
    replaced = registry.with_vocabulary(with_plain, bart)
    assert of_seqio(replaced.output_features["inputs"].vocabulary) is bart


def test_a_mixture_keeps_provenance_and_takes_another_vocabulary(own, speeches):
    examples = read_task(mixture_of(speeches, own, "text_infilling", [0.5, 0.5]), with_text=True)
    assert {*preprocessors.PROVENANCE, "text", "text_noise"} < set(examples[0])


@pytest.mark.slow
def test_decoder_starts_pass_through_a_mixture_and_packing(own, speeches):
    mixture = mixture_of(speeches, own, "mbart", [0.5, 0.5], language="en_XX")
    dataset = open_task(mixture, limit=80).take(50)
    rows = DenoisingFeatureConverter(bos_id=3)(dataset, {"inputs": 80, "targets": 80})
    for row in rows.as_numpy_iterator():
        first = (row["decoder_positions"] == 0) & (row["decoder_segment_ids"] > 0)
        assert first.sum() > 0
        assert set(row["decoder_input_tokens"][first].tolist()) == {own.symbol_id("en_XX")}


def test_tasks_with_different_features_do_not_mix(own, speeches):
    tasks = [text_task("with", speeches, own, "mbart", "en_XX"), text_task("without", speeches, own)]
    with pytest.raises(DataError, match="mixture 'both' cannot be mixed"):
        open_task(seqio.Mixture("both", [(task, 1) for task in tasks]))


@pytest.mark.slow
def test_schedules_of_a_mixture_follow_each_tasks_share_of_a_step(own, speeches):
    """Three of four tokens of a step are the first task's, so its schedule needs three times the tokens."""

    def curriculum(symbols):
        return text_infilling(symbols, mask_prob=Linear(0.0, 0.5, steps=10))

    mixture = mixture_of(speeches, own, curriculum, [3, 1])
    expected = set()
    for task, share in zip(mixture.tasks, (0.75, 0.25), strict=True):
        seen = 0
        for example in read_task(task, per_step=400 * share):
            n = len(example["targets"]) - 1
            rate = Fraction(min(int(seen / (400 * share)), 10), 20)
            masked = example["targets_kind"] == TargetKind.MASKED
            assert masked.sum() == math.ceil(rate * n)
            expected.add(masked.tobytes())
            seen += n + 1
        assert seen > 10 * 400
    mixed = read_task(mixture, per_step=400)
    assert {(example["targets_kind"] == TargetKind.MASKED).tobytes() for example in mixed} <= expected


def test_binding_leaves_the_registered_task_unchanged(own, speeches):
    task = text_task("bound", speeches[:1], own)
    bound = registry.bind_reading(task, Reading(shard=3, provenance=False))
    assert bound.preprocessors[-1].reading == Reading(shard=3, provenance=False)
    assert task.preprocessors[-1].reading == Reading()


def test_noise_that_cannot_be_bound_is_refused_in_training(own, speeches):
    task = text_task("wrapped", speeches[:1], own)
    *before, noise = task.preprocessors
    wrapped = task.replace(preprocessors=[*before, functools.partial(_call, noise)])
    assert read_task(wrapped)[0]["inputs"][-1] == EOS_ID
    with pytest.raises(DataError, match="task 'wrapped': its noise cannot be bound"):
        read_task(wrapped, provenance=False)


def _call(noise, dataset, output_features, sequence_length=None):
    return noise(dataset, output_features, sequence_length)


def test_texts_are_the_documents_before_tokenization(own, tmp_path):
    (tmp_path / "lines.txt").write_text("A line.\nAnother.\n")
    task = text_task("lines", [], own)
    task = task.replace(source=seqio.TextLineDataSource({"train": str(tmp_path / "lines.txt")}))
    with_text = task.replace(
        preprocessors=[lambda ds: ds.map(lambda line: {"text": line}), *task.preprocessors]
    )
    assert list(registry.texts(with_text, "train")) == ["A line.", "Another."]
    assert len(read_task(with_text)) == 2
    with pytest.raises(DataError, match="a feature `text` is needed"):
        next(registry.texts(task, "train"))


def test_epochs_after_a_restore_come_in_the_order_of_an_uninterrupted_run(tiny_config, own):
    # Two files, shuffled anew in each epoch. The pipeline reads the whole first epoch in advance.
    task = registry.find_task("tiny", ("tests.tiny_corpus",), own)
    options = {"lengths": {"inputs": 48, "targets": 32}, "num_shards": 4, "seed": 0, "training": True}
    options["reading"] = Reading(per_step=256.0, provenance=False)
    original, restored = (iter(registry.open_shards(task, "train", [2], **options)[0]) for _ in "12")
    next(original)
    position = tf.raw_ops.SerializeIterator(
        resource_handle=original._iterator_resource, external_state_policy=2
    )
    tf.raw_ops.DeserializeIterator(resource_handle=restored._iterator_resource, serialized=position)
    for _ in range(1500):
        np.testing.assert_array_equal(next(restored)["targets"], next(original)["targets"])


def test_shards_that_are_opened_together_are_traced_once_and_read_as_if_alone(own, speeches, caplog):
    traced = []

    def corruption(symbols):
        traced.append(symbols)
        return presets.build("bart_paper", symbols)

    task = text_task("together", speeches[:1], own, corruption)
    options = {
        "lengths": {"inputs": 48, "targets": 32},
        "num_shards": 4,
        "seed": 0,
        "training": False,
        "reading": Reading(provenance=False),
    }
    together = registry.open_shards(task, "train", [1, 2, 3], **options)
    assert len(traced) == 1
    for shard, dataset in zip([1, 2, 3], together, strict=True):
        (alone,) = registry.open_shards(task, "train", [shard], **options)
        for found, expected in zip(dataset.as_numpy_iterator(), alone.as_numpy_iterator(), strict=True):
            for name in expected:
                np.testing.assert_array_equal(found[name], expected[name])
    for _ in range(6):  # as many validations do
        registry.open_shards(task, "train", [0], **options)
    assert "retracing" not in caplog.text


@pytest.mark.parametrize(("shards", "size"), [(1, 1000), (4, 250), (64, 100)])
def test_shards_divide_the_shuffle_buffer_of_the_task(own, speeches, shards, size, monkeypatch):
    sizes = []
    shuffle = tf.data.Dataset.shuffle
    monkeypatch.setattr(
        tf.data.Dataset, "shuffle", lambda ds, n, **seed: sizes.append(n) or shuffle(ds, n, **seed)
    )
    task = text_task("buffer", speeches[:1], own)
    assert task.shuffle_buffer_size == 1000
    options = {"lengths": {"inputs": 48, "targets": 32}, "seed": 0, "reading": Reading()}
    registry.open_shards(task, "train", [0], num_shards=shards, training=True, **options)
    assert sizes == [size]


@pytest.mark.parametrize("rates", [[0, 0], [-1, 2], [math.nan, 1]])
def test_rates_that_mix_nothing_are_refused(own, speeches, rates):
    with pytest.raises(DataError, match="rates of mixture 'mixed' are .*; they must be 0 or more"):
        registry.shares(mixture_of(speeches[:1], own, "none", rates))


@pytest.mark.parametrize("side", ["inputs", "targets"])
def test_ids_of_another_kind_of_vocabulary_are_refused(own, side):
    task = text_task("foreign", [], own)
    foreign = seqio.Feature(seqio.ByteVocabulary(), add_eos=True, dtype=tf.int32)
    task = task.replace(output_features={**task.output_features, side: foreign})
    for found in (task, seqio.Mixture("both", [(task, 1)])):
        with pytest.raises(DataError, match=f"'foreign': its feature '{side}' has ids of a ByteVocabulary"):
            registry.with_vocabulary(found, own)
