"""From text to noised pieces: nothing lost, cut at sentence ends, noise keyed apart for shards and tasks."""

import math
from fractions import Fraction

import numpy as np
import pytest
import seqio
import tensorflow as tf

from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.presets import PRESETS
from denoise_jax.corruption.rates import Linear
from denoise_jax.corruption.record import TargetNoise
from denoise_jax.corruption.span_corruption import span_corruption
from denoise_jax.data import preprocessors, registry
from denoise_jax.data.packing import DenoisingFeatureConverter
from denoise_jax.errors import DataError
from denoise_jax.target_kinds import TargetKind
from denoise_jax.vocabulary.base import EOS_ID
from denoise_jax.vocabulary.load import load_vocabulary

LIMIT = 40


def _source(texts):
    def dataset(split, shuffle_files, seed=None):
        del split, shuffle_files, seed
        return tf.data.Dataset.from_tensor_slices({"text": texts})

    return seqio.FunctionDataSource(dataset, splits=["train"])


def _task(name, texts, vocabulary_folder, corruption="bart_paper", language=None):
    return seqio.Task(
        name,
        source=_source(texts),
        preprocessors=preprocessors.denoising(name, corruption, language=language),
        output_features=preprocessors.output_features(str(vocabulary_folder)),
    )


@pytest.fixture(scope="module")
def pieces(vocabulary_folder, speeches):
    """(tokens, sentence ids) of each piece that the speeches are cut into."""
    features = preprocessors.output_features(str(vocabulary_folder))
    dataset = tf.data.Dataset.from_tensor_slices({"text": speeches})
    dataset = preprocessors.tokenize_sentences(dataset, features)
    whole = [(e["targets"], e["sentence_ids"]) for e in dataset.as_numpy_iterator()]
    cut = preprocessors.cut_documents(dataset, {"targets": LIMIT})
    return whole, [(e["targets"], e["sentence_ids"]) for e in cut.as_numpy_iterator()]


def test_cutting_loses_nothing_and_keeps_the_order(pieces):
    whole, cut = pieces
    np.testing.assert_array_equal(np.concatenate([t for t, _ in whole]), np.concatenate([t for t, _ in cut]))
    assert all(1 <= len(tokens) <= LIMIT - 1 for tokens, _ in cut)


def test_cuts_are_at_sentence_ends_and_greedy(pieces):
    whole, cut = pieces
    sentences = [np.bincount(ids)[np.unique(ids)] for _, ids in whole]
    expected = []
    for lengths in sentences:
        units = [
            n
            for length in lengths
            for n in [LIMIT - 1] * (length // (LIMIT - 1)) + [length % (LIMIT - 1)]
            if n
        ]
        filled = 0
        for unit in units:
            if not filled or filled + unit > LIMIT - 1:
                expected.append(0)
                filled = 0
            expected[-1] += unit
            filled += unit
    assert [len(tokens) for tokens, _ in cut] == expected


def test_sentences_count_from_one_in_every_piece(pieces):
    for _, ids in pieces[1]:
        assert ids[0] == 1
        assert set(np.diff(ids)) <= {0, 1}


def test_examples_close_with_eos_and_carry_provenance(vocabulary_folder, speeches, read_task):
    mask = load_vocabulary(vocabulary_folder).mask_id
    examples = read_task(_task("a", speeches[:1], vocabulary_folder))
    assert len(examples) > 100
    for example in examples:
        targets, inputs = example["targets"], example["inputs"]
        assert targets[-1] == inputs[-1] == EOS_ID
        assert len(targets) == len(example["targets_kind"]) <= LIMIT
        assert (
            len({len(example[name]) for name in ("inputs", "inputs_source", "inputs_span", "inputs_op")}) == 1
        )
        assert all((example[name] > 0).all() for name in example)
        kept = example["inputs_op"] == 1
        np.testing.assert_array_equal(inputs[kept], targets[example["inputs_source"][kept] - 1])
        assert (inputs[~kept] == mask).all()
        hidden = np.sum(example["targets_kind"] == TargetKind.MASKED)
        assert hidden == math.ceil(Fraction("0.3") * (len(targets) - 1))
        np.testing.assert_array_equal(example["targets_source"], np.arange(1, len(targets) + 1))


def test_long_inputs_are_cut_before_eos(vocabulary_folder, speeches, read_task):
    for example in read_task(_task("a", speeches[:1], vocabulary_folder), input_limit=16):
        assert len(example["inputs"]) <= 16
        assert example["inputs"][-1] == EOS_ID
        kept = example["inputs_source"][example["inputs_op"] == 1]
        seen = np.isin(example["targets_kind"], (TargetKind.MASKED, TargetKind.DELETED), invert=True)
        visible = np.flatnonzero(seen) + 1
        np.testing.assert_array_equal(np.sort(kept), visible, "what was cut off is not visible")


def test_blank_documents_are_dropped(vocabulary_folder, read_task):
    assert read_task(_task("a", ["", " \n "], vocabulary_folder)) == []


def _masks(examples):
    return [tuple(example["targets_kind"] == TargetKind.MASKED) for example in examples]


def _agreement(first, second):
    """Share of target tokens with equal noise; .58 is expected of independent noise at 0.3."""
    pairs = [(a, b) for one, two in zip(first, second, strict=True) for a, b in zip(one, two, strict=True)]
    return sum(a == b for a, b in pairs) / len(pairs)


def test_noise_is_reproducible_and_follows_the_seed(vocabulary_folder, speeches, read_task):
    task = _task("a", speeches, vocabulary_folder)
    assert _masks(read_task(task, seed=1)) == _masks(read_task(task, seed=1))
    assert _agreement(_masks(read_task(task, seed=1)), _masks(read_task(task, seed=2))) < 0.65


def test_epochs_get_new_noise(vocabulary_folder, speeches):
    task = _task("a", speeches[:1], vocabulary_folder)
    options = {
        "sequence_length": {"inputs": 80, "targets": LIMIT},
        "split": "train",
        "seed": 0,
        "shuffle": False,
    }
    examples = list(task.get_dataset(num_epochs=2, **options).as_numpy_iterator())
    half = len(examples) // 2
    assert _agreement(_masks(examples[:half]), _masks(examples[half:])) < 0.65


def _mixture(vocabulary_folder, speeches, corruption, rates, language=None):
    """A mixture of tasks of the same text, which bring a vocabulary that is not there and take another."""
    tag = f"{language or 'plain'}_{getattr(corruption, '__name__', corruption)}"
    names = [f"mixed_{tag}_{index}" for index in range(len(rates))]
    for name in set(names) - set(seqio.TaskRegistry.names()):
        seqio.TaskRegistry.add(
            name,
            source=_source(speeches),
            preprocessors=preprocessors.denoising(name, corruption, language=language),
            output_features=preprocessors.output_features("nowhere"),
        )
    mixture = seqio.Mixture(f"mixed_{tag}", list(zip(names, rates, strict=True)))
    return registry.with_vocabulary(mixture, str(vocabulary_folder))


def test_mixture_keeps_provenance_and_takes_another_vocabulary(vocabulary_folder, speeches, read_task):
    examples = read_task(_mixture(vocabulary_folder, speeches, "text_infilling", [0.5, 0.5]))
    assert set(preprocessors.PROVENANCE) < set(examples[0])


def test_starts_of_decoders_pass_through_a_mixture_and_packing(vocabulary_folder, speeches):
    language = load_vocabulary(vocabulary_folder).symbol_id("en_XX")
    mixture = _mixture(vocabulary_folder, speeches, "mbart", [0.5, 0.5], language="en_XX")
    lengths = {"inputs": 2 * LIMIT, "targets": 2 * LIMIT}
    dataset = registry.open_shard(
        mixture, "train", lengths=lengths, num_shards=1, seed=0, training=False, how=preprocessors.Reading()
    )
    rows = DenoisingFeatureConverter(bos_id=3)(dataset.take(50), lengths)
    for row in rows.as_numpy_iterator():
        first = (row["decoder_positions"] == 0) & (row["decoder_segment_ids"] > 0)
        assert first.sum() > 0
        assert set(row["decoder_input_tokens"][first].tolist()) == {language}


def test_tasks_with_a_language_and_tasks_without_are_not_mixed(vocabulary_folder, speeches, read_task):
    tasks_of = [
        _mixture(vocabulary_folder, speeches, "mbart", [1], language=language) for language in ("en_XX", None)
    ]
    both = seqio.Mixture("both", [(mixture.tasks[0], 1) for mixture in tasks_of])
    with pytest.raises(DataError, match="mixture 'both' cannot be mixed.*different features"):
        read_task(both)


def test_in_a_mixture_a_schedule_goes_by_each_tasks_share(vocabulary_folder, speeches, read_task):
    """Three of four tokens of a step are the first task's, so its clock is three times as slow a token."""

    def mixed_curriculum(symbols):
        return text_infilling(symbols, mask_prob=Linear(0.0, 0.5, steps=10))

    mixture = _mixture(vocabulary_folder, speeches, mixed_curriculum, [3, 1])
    shares = dict(zip([member.name for member in mixture.tasks], (0.75, 0.25), strict=True))
    expected = set()
    for member in mixture.tasks:
        with preprocessors.reading(preprocessors.Reading(per_step=400, shares=shares)):
            alone = member.get_dataset({"inputs": 80, "targets": LIMIT}, "train", shuffle=False, seed=0)
        examples, seen = list(alone.as_numpy_iterator()), 0
        expected |= set(_masks(examples))
        for example in examples:
            n = len(example["targets"]) - 1
            rate = Fraction(min(int(seen / (400 * shares[member.name])), 10), 20)
            assert np.sum(example["targets_kind"] == TargetKind.MASKED) == math.ceil(rate * n)
            seen += n + 1
        assert seen > 10 * 400
    assert set(_masks(read_task(mixture, per_step=400))) <= expected, "the mixture finds the shares by itself"
    with (
        pytest.raises(
            DataError, match="task 'mixed_plain.*the mixture has another; give the preprocessor the"
        ),
        preprocessors.reading(preprocessors.Reading(per_step=400, shares={"another": 1.0})),
    ):
        mixture.tasks[0].get_dataset({"inputs": 80, "targets": LIMIT}, "train", shuffle=False, seed=0)


@pytest.mark.parametrize("preset", ["bart_fairseq", "t5_span", "prefix_lm", "pegasus", "handbook"])
def test_presets_give_whole_examples(vocabulary_folder, speeches, preset, read_task):
    for example in read_task(_task("a", speeches[:1], vocabulary_folder, preset), with_text=True):
        for side, columns in {
            "inputs": ("inputs_source", "inputs_span", "inputs_op"),
            "targets": ("targets_source", "targets_kind"),
            "text": ("text_noise",),
        }.items():
            assert {len(example[column]) for column in columns} == {len(example[side])}
        assert all((values > 0).all() for values in example.values())
        assert example["inputs"][-1] == example["targets"][-1] == EOS_ID
        assert len(example["inputs"]) >= 2 or preset == "prefix_lm"
        kept = example["inputs_op"][:-1] == 1
        source = example["inputs_source"][:-1][kept] - 1
        np.testing.assert_array_equal(example["inputs"][:-1][kept], example["text"][source])


def test_long_outputs_are_cut_before_eos(vocabulary_folder, speeches, read_task):
    """Spans of one token, nine of ten hidden: a sentinel for each makes outputs longer than the text."""

    def dense(symbols):
        return span_corruption(symbols, noise_density=0.5, mean_noise_span_length=1.0, max_tokens=15)

    for example in read_task(_task("a", speeches[:1], vocabulary_folder, dense), limit=16):
        assert len(example["targets"]) <= 16
        assert example["targets"][-1] == EOS_ID


def test_language_tokens_close_both_sides_and_start_the_decoder(vocabulary_folder, speeches, read_task):
    """As mBART: sentences end in </s>, which travels with them, and nothing but the language closes."""
    language = load_vocabulary(vocabulary_folder).symbol_id("en_XX")
    task = _task("a", speeches[:1], vocabulary_folder, "mbart", language="en_XX")
    ends = 0
    for example in read_task(task, with_text=True):
        assert example["inputs"][-1] == example["targets"][-1] == language
        assert example["decoder_start"].tolist() == [language]
        noise_of_ends = example["text_noise"][example["text"] == EOS_ID]
        assert (noise_of_ends == TargetNoise.VISIBLE).all()
        ends += len(noise_of_ends)
    assert ends > 50
    with pytest.raises(DataError, match="language='xx' is no control symbol"):
        read_task(_task("a", speeches[:1], vocabulary_folder, "mbart", language="xx"))


def test_schedules_follow_the_tokens_of_the_shard(vocabulary_folder, speeches, read_task):
    """The rate of an example is that of the training step that reads it: 0 at first, 0.5 from step 10 on."""

    def curriculum(symbols):
        return text_infilling(symbols, mask_prob=Linear(0.0, 0.5, steps=10))

    task = _task("a", speeches, vocabulary_folder, curriculum)
    examples, seen = read_task(task, per_step=400), 0
    for example in examples:
        n = len(example["targets"]) - 1
        rate = Fraction(min(seen // 400, 10), 20)
        assert np.sum(example["targets_kind"] == TargetKind.MASKED) == math.ceil(rate * n)
        seen += n + 1
    for number, example in enumerate(read_task(task, per_step=20, packed=False)):
        rate = Fraction(min(number // 20, 10), 20)
        masked = np.sum(example["targets_kind"] == TargetKind.MASKED)
        assert masked == math.ceil(rate * (len(example["targets"]) - 1))
    for example in read_task(task):  # nobody trains: the end of the schedule
        masked = np.sum(example["targets_kind"] == TargetKind.MASKED)
        assert masked == math.ceil((len(example["targets"]) - 1) / 2)


def test_centuries_are_sampled_by_size_to_the_power_of_seven_tenths():
    mixture = registry.find_task("quickstart_mbart_centuries", ["tasks"])
    rates = [mixture.get_rate(task) for task in mixture.tasks]
    counts = [task.num_input_examples("train") for task in mixture.tasks]
    expected = np.power(counts, 0.7)
    np.testing.assert_allclose(np.array(rates) / sum(rates), expected / expected.sum())
    assert sum(counts) == registry.find_task("quickstart", ["tasks"]).num_input_examples("train")


def test_a_task_for_every_preset():
    names = set(seqio.TaskRegistry.names())
    assert {f"quickstart_{preset}" for preset in PRESETS} <= names


def test_refusals(vocabulary_folder, read_task):
    with pytest.raises(DataError, match="did you mean quickstart"):
        registry.find_task("quickstrat", ["tasks"])
    with pytest.raises(DataError, match="cannot import 'no_such_module'"):
        registry.find_task("quickstart", ["no_such_module"])
    with pytest.raises(DataError, match="no split 'dev'; it has test, train, validation"):
        registry.check_splits(registry.find_task("quickstart", ["tasks"]), ["dev"])
    with pytest.raises(DataError, match="'a'.*did you mean bart_paper"):
        read_task(_task("a", ["text"], vocabulary_folder, corruption="bart_papr"))
    empty = seqio.Task(
        "empty",
        source=seqio.FileDataSource(tf.data.TextLineDataset, {"train": []}),
        preprocessors=preprocessors.denoising("empty", "none"),
        output_features=preprocessors.output_features(str(vocabulary_folder)),
    )
    with pytest.raises(DataError, match="corpus of task 'empty', split 'train', is empty"):
        registry.check_splits(empty, ["train"])


def test_texts_are_what_stands_before_the_tokenizer(vocabulary_folder, tmp_path, read_task):
    (tmp_path / "lines.txt").write_text("A line.\nAnother.\n")
    task = seqio.Task(
        "lines",
        source=seqio.TextLineDataSource({"train": str(tmp_path / "lines.txt")}),
        preprocessors=[
            lambda ds: ds.map(lambda line: {"text": line}),
            *preprocessors.denoising("lines", "bart_paper"),
        ],
        output_features=preprocessors.output_features(str(vocabulary_folder)),
    )
    assert list(registry.texts(task, "train")) == ["A line.", "Another."]
    assert len(read_task(task)) == 2
    bare = task.replace(preprocessors=preprocessors.denoising("lines", "bart_paper"))
    with pytest.raises(DataError, match="a feature `text` is needed"):
        next(registry.texts(bare, "train"))
