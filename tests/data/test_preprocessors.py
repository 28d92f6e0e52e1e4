"""Noised examples: special tokens, provenance, truncation, streams of noise, schedules."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
import sentencepiece
import seqio
import tensorflow as tf

from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.rates import Linear
from denoise_jax.corruption.record import Op, TargetNoise
from denoise_jax.corruption.span_corruption import span_corruption
from denoise_jax.corruption.symbols import Symbols
from denoise_jax.data.preprocessors import corrupt, noise_symbols
from denoise_jax.errors import DataError
from denoise_jax.target_kinds import TargetKind
from denoise_jax.vocabulary.base import EOS_ID
from denoise_jax.vocabulary.load import load_vocabulary
from denoise_jax.vocabulary.seqio import SeqioVocabulary
from tests.data.helpers import ids_task, read_task, text_task

LIMIT = 40


@pytest.fixture(scope="module")
def own(vocabulary_folder):
    return load_vocabulary(vocabulary_folder)


@pytest.fixture(scope="module")
def bart(bart_folder):
    return load_vocabulary(bart_folder)


def masks_of(examples):
    return [example["targets_kind"] == TargetKind.MASKED for example in examples]


def agreement(first, second):
    """Share of target tokens with equal noise; .58 is expected of independent noise at 0.3."""
    return np.mean(np.concatenate(masks_of(first)) == np.concatenate(masks_of(second)))


def test_examples_end_in_eos_and_carry_provenance(own, speeches):
    examples = read_task(text_task("a", speeches[:1], own))
    assert len(examples) > 100
    for example in examples:
        targets, inputs = example["targets"], example["inputs"]
        assert targets[-1] == inputs[-1] == EOS_ID
        assert len(targets) == len(example["targets_kind"]) <= LIMIT
        columns = ("inputs", "inputs_source", "inputs_span", "inputs_op")
        assert len({len(example[name]) for name in columns}) == 1
        assert all((values > 0).all() for values in example.values())
        kept = example["inputs_op"] == Op.KEEP
        np.testing.assert_array_equal(inputs[kept], targets[example["inputs_source"][kept] - 1])
        assert (inputs[~kept] == own.mask_id).all()
        masked = np.sum(example["targets_kind"] == TargetKind.MASKED)
        assert masked == math.ceil(Fraction("0.3") * (len(targets) - 1))
        np.testing.assert_array_equal(example["targets_source"], np.arange(1, len(targets) + 1))


def test_opening_tokens_are_text_that_noise_never_touches(bart, speeches):
    task = text_task("speech", speeches[:1], bart)
    for example in read_task(task, limit=24, input_limit=20, with_text=True):
        inputs, targets = example["inputs"], example["targets"]
        assert len(targets) <= 24
        assert len(inputs) <= 20
        for side in (inputs, targets):
            assert (side[0], side[-1]) == (bart.bos_id, EOS_ID)
            assert not set(side[1:-1].tolist()) & {0, 1, bart.bos_id}
        assert (example["inputs_op"][0], example["inputs_source"][0], example["inputs_span"][0]) == (1, 1, 2)
        assert (example["targets_source"][0], example["targets_kind"][0]) == (1, TargetKind.IN_PLACE)
        np.testing.assert_array_equal(example["targets_source"], np.arange(1, len(targets) + 1))
        np.testing.assert_array_equal(example["text"], targets[:-1])
        assert len(example["text_noise"]) == len(example["text"])
        kept = example["inputs_op"] == Op.KEEP
        np.testing.assert_array_equal(inputs[kept], targets[example["inputs_source"][kept] - 1])


def test_targets_that_are_a_part_of_the_text_are_opened_too(bart, speeches):
    for example in read_task(text_task("speech", speeches[:1], bart, "prefix_lm"), limit=24):
        for side in ("inputs", "targets"):
            assert (example[side][0], example[side][-1]) == (bart.bos_id, EOS_ID)
        first, *rest = example["targets_source"]
        assert first == 1
        np.testing.assert_array_equal(rest, np.arange(rest[0], rest[0] + len(rest)))


def test_long_inputs_are_truncated_before_eos(own, speeches):
    for example in read_task(text_task("a", speeches[:1], own), input_limit=16):
        assert len(example["inputs"]) <= 16
        assert example["inputs"][-1] == EOS_ID
        kept = example["inputs_source"][example["inputs_op"] == Op.KEEP]
        hidden = np.isin(example["targets_kind"], (TargetKind.MASKED, TargetKind.DELETED))
        np.testing.assert_array_equal(np.sort(kept), np.flatnonzero(~hidden) + 1)


def test_long_targets_are_truncated_before_eos(own, speeches):
    """Spans of one token, half of them masked: a sentinel for each makes targets longer than the text."""

    def dense(symbols):
        return span_corruption(symbols, noise_density=0.5, mean_noise_span_length=1.0, max_tokens=15)

    for example in read_task(text_task("a", speeches[:1], own, dense), limit=16):
        assert len(example["targets"]) <= 16
        assert example["targets"][-1] == EOS_ID


def test_blank_documents_are_dropped(own):
    assert read_task(text_task("a", ["", " \n "], own)) == []


def test_noise_is_reproducible_and_follows_the_seed(own, speeches):
    task = text_task("a", speeches[:1], own)
    first, again, other = (read_task(task, seed=seed) for seed in (1, 1, 2))
    assert agreement(first, again) == 1
    assert agreement(first, other) < 0.65


def test_epochs_get_new_noise(own, speeches):
    task = text_task("a", speeches[:1], own)
    lengths = {"inputs": 80, "targets": LIMIT}
    twice = task.get_dataset(lengths, "train", seed=0, shuffle=False, num_epochs=2)
    examples = list(twice.as_numpy_iterator())
    half = len(examples) // 2
    assert agreement(examples[:half], examples[half:]) < 0.65


@pytest.mark.parametrize(
    "preset",
    [
        "bart_fairseq",
        "t5_span",
        "prefix_lm",
        pytest.param("pegasus", marks=pytest.mark.slow),
        pytest.param("handbook", marks=pytest.mark.slow),
    ],
)
def test_every_token_of_every_side_has_its_provenance(own, speeches, preset):
    for example in read_task(text_task("a", speeches[:1], own, preset), with_text=True):
        for side, columns in {
            "inputs": ("inputs_source", "inputs_span", "inputs_op"),
            "targets": ("targets_source", "targets_kind"),
            "text": ("text_noise",),
        }.items():
            assert {len(example[column]) for column in columns} == {len(example[side])}
        assert all((values > 0).all() for values in example.values())
        assert example["inputs"][-1] == example["targets"][-1] == EOS_ID
        assert len(example["inputs"]) >= 2 or preset == "prefix_lm"
        kept = example["inputs_op"][:-1] == Op.KEEP
        source = example["inputs_source"][:-1][kept] - 1
        np.testing.assert_array_equal(example["inputs"][:-1][kept], example["text"][source])


def test_language_tokens_close_both_sides_and_start_the_decoder(own, speeches):
    """As in mBART: sentences end in </s>, which moves with them, and only the language closes a text."""
    language = own.symbol_id("en_XX")
    task = text_task("a", speeches[:1], own, "mbart", language="en_XX")
    ends = 0
    for example in read_task(task, with_text=True):
        assert example["inputs"][-1] == example["targets"][-1] == language
        assert example["decoder_start"].tolist() == [language]
        noise_of_ends = example["text_noise"][example["text"] == EOS_ID]
        assert (noise_of_ends == TargetNoise.VISIBLE).all()
        ends += len(noise_of_ends)
    assert ends > 50
    with pytest.raises(DataError, match="task 'a': language='xx' is not a control symbol"):
        read_task(text_task("a", speeches[:1], own, "mbart", language="xx"))


def test_schedules_follow_the_tokens_of_the_shard(own, speeches):
    """The rate of an example is that of the training step that reads it: 0 at first, 0.5 from step 10 on."""

    def curriculum(symbols):
        return text_infilling(symbols, mask_prob=Linear(0.0, 0.5, steps=10))

    task = text_task("a", speeches[:1], own, curriculum)
    seen = 0
    for example in read_task(task, per_step=400):
        n = len(example["targets"]) - 1
        rate = Fraction(min(seen // 400, 10), 20)
        assert np.sum(example["targets_kind"] == TargetKind.MASKED) == math.ceil(rate * n)
        seen += n + 1
    for index, example in enumerate(read_task(task, per_step=20, packed=False)):
        rate = Fraction(min(index // 20, 10), 20)
        masked = np.sum(example["targets_kind"] == TargetKind.MASKED)
        assert masked == math.ceil(rate * (len(example["targets"]) - 1))
    for example in read_task(task):  # outside of training: the end of the schedule
        masked = np.sum(example["targets_kind"] == TargetKind.MASKED)
        assert masked == math.ceil((len(example["targets"]) - 1) / 2)


def test_unknown_presets_are_refused(own):
    with pytest.raises(DataError, match="'a'.*did you mean bart_paper"):
        read_task(text_task("a", ["text"], own, "bart_papr"))


def test_symbols_are_found_once_for_each_vocabulary(own, bart, vocabulary_folder):
    assert noise_symbols(own) is noise_symbols(load_vocabulary(vocabulary_folder))
    assert noise_symbols(own).separator is None
    assert noise_symbols(own, closed_sentences=True).separator == EOS_ID
    assert noise_symbols(bart).mask_token == bart.mask_id


def test_one_line_corrupts_token_ids(own):
    texts = [np.arange(100 + i, 110 + i) for i in range(100)]
    for length in (10, None):
        examples = read_task(ids_task(texts, SeqioVocabulary(own), "text_infilling", length))
        assert [example["targets"].tolist() for example in examples] == [[*ids, EOS_ID] for ids in texts]
        assert {np.sum(mask) for mask in masks_of(examples)} == {3}
    for example in read_task(ids_task(texts, SeqioVocabulary(own), "none"), limit=6):
        assert len(example["targets"]) == len(example["targets_kind"]) == 6
        assert example["targets"][-1] == EOS_ID


def test_empty_texts_are_dropped(own):
    some_empty = [np.arange(100 + i, 110 + i)[: i % 3] for i in range(100)]
    task = ids_task(some_empty, SeqioVocabulary(own), "token_masking")

    def number_sentences(dataset):
        return dataset.map(lambda e: {**e, "sentence_ids": tf.ones_like(e["targets"])})

    for preprocessors in (task.preprocessors, [number_sentences, *task.preprocessors]):
        examples = read_task(task.replace(preprocessors=preprocessors))
        assert [len(example["targets"]) - 1 for example in examples] == [1, 2] * 33
    assert read_task(ids_task([ids[:0] for ids in some_empty], SeqioVocabulary(own), "token_masking")) == []


def test_other_vocabularies_need_their_symbols():
    vocabulary = seqio.ByteVocabulary(extra_ids=1)
    texts = [vocabulary.encode("A text of bytes.") for _ in range(10)]
    with pytest.raises(DataError, match="task 'ids': the mask of a ByteVocabulary is unknown.*symbols"):
        read_task(ids_task(texts, vocabulary, "text_infilling"))
    with pytest.raises(DataError, match="task 'ids': language='en' needs a SentencePiece"):
        read_task(ids_task(texts, vocabulary, "text_infilling", language="en"))
    with pytest.raises(DataError, match="task 'ids': a PassThroughVocabulary has no eos_id"):
        read_task(ids_task(texts, seqio.PassThroughVocabulary(512), "text_infilling"))
    symbols = Symbols(mask_token=259, vocab_size=vocabulary.vocab_size, protected=(0, 1, 2))
    for example in read_task(ids_task(texts, vocabulary, "text_infilling", symbols=symbols)):
        assert example["inputs"][-1] == example["targets"][-1] == vocabulary.eos_id
        assert 259 in example["inputs"]


def test_plain_seqio_vocabularies_need_no_mask_if_symbols_are_given(tmp_path, speeches):
    model = tmp_path / "plain.model"
    with model.open("wb") as writer:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(speeches[0].splitlines()),
            model_writer=writer,
            vocab_size=200,
            minloglevel=2,
        )
    vocabulary = seqio.SentencePieceVocabulary(str(model))  # 0 is <unk>, 1 is <s>, 2 is </s>
    texts = [np.arange(50, 60)] * 3
    symbols = Symbols(mask_token=199, vocab_size=200, protected=(0, 1, 2))
    for example in read_task(ids_task(texts, vocabulary, "text_infilling", symbols=symbols)):
        assert example["inputs"][-1] == example["targets"][-1] == 2
        assert 199 in example["inputs"]


def test_sentinels_suffice_for_the_longest_text_that_both_sides_hold(own):
    """T5's format: texts without sentences, longer than the targets may be; and an explicit `max_tokens`."""
    texts = [np.arange(100, 500)] * 20
    for example in read_task(ids_task(texts, SeqioVocabulary(own), "t5_span"), limit=90, input_limit=370):
        sentinels = example["inputs"][example["inputs_op"] == Op.SENTINEL]
        assert len(set(sentinels.tolist())) == len(sentinels) in (20, 21)
        assert len(example["targets"]) == 60 + len(sentinels) + 1
    for longest, options in ((488, {}), (600, {"max_tokens": 600})):
        refused = ids_task(texts, SeqioVocabulary(own), "t5_span", **options)
        with pytest.raises(DataError, match=rf"max_tokens={longest} can need .* but the vocabulary has 24"):
            read_task(refused, limit=90, input_limit=400)


def test_binding_leaves_the_preprocessor_itself_unchanged():
    noise = corrupt("a", "bart_paper")
    bound = noise.bind(dataclasses.replace(noise.reading, shard=5))
    assert (noise.reading.shard, bound.reading.shard) == (0, 5)
    assert (bound.task, bound.corruption) == ("a", "bart_paper")
