"""Tokenizers of others inside tf.data: the same ids, positions that can be saved, what SeqIO expects."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from denoise_jax.corruption.record import Op
from denoise_jax.data import loader, preprocessors, registry
from denoise_jax.errors import DataError
from denoise_jax.inspection import examples
from denoise_jax.target_kinds import TargetKind
from denoise_jax.vocabulary.load import load_vocabulary
from denoise_jax.vocabulary.seqio import of_seqio, seqio_vocabulary


@pytest.fixture(scope="module")
def bart(bart_folder):
    return seqio_vocabulary(bart_folder)


def one_speech(folder, speeches, preset):
    """A task of one speech under a preset, over the vocabulary in `folder`."""
    return seqio.Task(
        "speech",
        source=seqio.FunctionDataSource(
            lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensors({"text": speeches[0]}),
            splits=["train"],
        ),
        preprocessors=preprocessors.denoising("speech", preset),
        output_features=preprocessors.output_features(str(folder)),
    )


def test_graph_and_python_agree(bart, speeches):
    texts = ["The state", "", speeches[0][:3000], "naïve 😀"]
    ragged = bart.encode_tf(tf.constant(texts))
    assert ragged.dtype == tf.int32
    assert ragged.to_list() == [bart.encode(text) for text in texts]
    assert bart.encode_tf(tf.constant(texts[3])).numpy().tolist() == bart.encode(texts[3])
    assert bart.encode_tf(tf.constant([], tf.string)).to_list() == []
    assert bart.decode_tf(ragged[3]).numpy().decode() == texts[3] == bart.decode(bart.encode(texts[3]))
    two = tf.constant([[*bart.encode("so"), 1, 9], [*bart.encode("to"), 0, 0]], tf.int32)
    assert bart.decode_tf(two).numpy().tolist() == [b"so", b"to"], "nothing is read behind </s>"


def test_seqio_sees_one_vocabulary_where_it_is_the_same(bart, bart_folder, mbart_folder, vocabulary_folder):
    assert bart == type(bart)(load_vocabulary(bart_folder))
    assert hash(bart) == hash(type(bart)(load_vocabulary(bart_folder)))
    assert bart != seqio_vocabulary(mbart_folder)
    assert bart != seqio_vocabulary(vocabulary_folder)
    assert (bart.pad_id, bart.eos_id, bart.unk_id, bart.bos_id, bart.vocab_size) == (0, 1, 2, 3, 600)
    assert of_seqio(bart).fingerprint() == load_vocabulary(bart_folder).fingerprint()


@pytest.mark.parametrize("name", ["bart_folder", "mbart_folder"])
def test_sentences_joined_are_the_text_with_single_spaces(name, request, speeches):
    folder = request.getfixturevalue(name)
    dataset = tf.data.Dataset.from_tensor_slices({"text": [speeches[0], " \n", "One. Two!\nThree"]})
    features = preprocessors.output_features(str(folder))
    found = list(preprocessors.tokenize_sentences(dataset, features).as_numpy_iterator())
    assert len(found) == 2
    own = load_vocabulary(folder)
    assert found[1]["targets"].tolist() == own.encode("One. Two! Three")
    assert own.decode(found[0]["targets"]) == own.decode(own.encode(" ".join(speeches[0].split())))
    assert found[1]["sentence_ids"].max() == 3


def test_training_goes_on_exactly_where_it_was(tiny_config, bart_folder):
    """The quick start's task, BART's own noise, over BART's kind of tokenizer: packed, saved and restored."""
    own, config = load_vocabulary(bart_folder), tiny_config.data.model_copy(update={"shards": 1})
    original = loader.TrainLoader(config, own)
    for _ in range(2):
        next(original)
    files = original.state()
    expected = [next(original) for _ in range(4)]
    restored = loader.TrainLoader(config, own)
    restored.restore(files)
    for batch in expected:
        again = next(restored)
        for name, values in batch.items():
            np.testing.assert_array_equal(again[name], values, err_msg=name)
        first = (batch["decoder_positions"] == 0) & (batch["decoder_segment_ids"] > 0)
        assert set(batch["decoder_input_tokens"][first].tolist()) == {own.start_id}
        assert set(batch["decoder_target_tokens"][first].tolist()) == {own.bos_id}
        assert (batch["encoder_input_tokens"] == own.mask_id).any()


def test_examples_are_opened_and_closed_and_the_rest_is_noised(bart_folder, speeches, read_task):
    """<s> stands for itself on both sides; sources count it, lengths too."""
    own = load_vocabulary(bart_folder)
    task = one_speech(bart_folder, speeches, "bart_paper")
    for example in read_task(task, limit=24, input_limit=20, with_text=True):
        inputs, targets = example["inputs"], example["targets"]
        assert len(targets) <= 24
        assert len(inputs) <= 20
        for side in (inputs, targets):
            assert (side[0], side[-1]) == (own.bos_id, 1)
            assert not set(side[1:-1].tolist()) & {0, 1, own.bos_id}
        assert (example["inputs_op"][0], example["inputs_source"][0], example["inputs_span"][0]) == (1, 1, 2)
        assert (example["targets_source"][0], example["targets_kind"][0]) == (1, TargetKind.IN_PLACE)
        np.testing.assert_array_equal(example["targets_source"], np.arange(1, len(targets) + 1))
        np.testing.assert_array_equal(example["text"], targets[:-1])
        assert len(example["text_noise"]) == len(example["text"])
        kept = example["inputs_op"] == Op.KEEP
        np.testing.assert_array_equal(inputs[kept], targets[example["inputs_source"][kept] - 1])


def test_noise_that_writes_a_part_of_the_text_is_framed_too(bart_folder, speeches, read_task):
    for example in read_task(one_speech(bart_folder, speeches, "prefix_lm"), limit=24):
        for side in ("inputs", "targets"):
            assert (example[side][0], example[side][-1]) == (3, 1)
        assert example["targets_source"][0] == 1
        behind = example["targets_source"][1:]
        np.testing.assert_array_equal(behind, np.arange(behind[0], behind[0] + len(behind)))


def test_examples_can_be_looked_at(bart_folder, monkeypatch):
    found = registry.find_task("quickstart", ["tasks"], str(bart_folder))
    monkeypatch.setattr(examples.tasks, "find", lambda name, modules: found)
    (seen,) = examples.from_task("quickstart", ["tasks"], "train", length=32, count=1, seed=0)
    assert (seen.text[0], seen.inputs[0], seen.targets[-1]) == ("<s>", "<s>", "</s>")
    assert any(piece.startswith("▁") for piece in seen.text)
    assert not any(piece.startswith("Ġ") for piece in seen.text)


def test_class_labels_keep_their_vocabulary(bart_folder, vocabulary_folder):
    labels = seqio.Feature(seqio.PassThroughVocabulary(3), add_eos=False, dtype=tf.int32)
    texts = preprocessors.output_features(str(vocabulary_folder))["inputs"]
    task = seqio.Task(
        "labelled",
        source=seqio.FunctionDataSource(lambda split, shuffle_files, seed=None: None, splits=["train"]),
        preprocessors=[],
        output_features={"inputs": texts, "targets": labels},
    )
    replaced = registry.with_vocabulary(task, str(bart_folder)).output_features
    assert replaced["targets"] == labels
    assert replaced["inputs"].vocabulary == seqio_vocabulary(bart_folder)
    with pytest.raises(DataError, match="'labelled': a PassThroughVocabulary has no pieces"):
        examples.vocabulary_of(task)


def test_a_text_is_looked_at_as_it_is_trained_on(bart_folder):
    own = load_vocabulary(bart_folder)
    seen = examples.TextNoise("One here. Two there.", own).under("none", 0)
    assert seen.text == [own.piece(i) for i in own.encode("One here. Two there.")]
