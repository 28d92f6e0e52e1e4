"""Fine-tuning pairs are truncated, opened and closed according to the vocabulary."""

import functools
import json
import shutil

import pytest
import seqio
import tensorflow as tf

from denoise_jax.data.special_tokens import add_special_tokens
from denoise_jax.errors import DataError
from denoise_jax.vocabulary.load import load_vocabulary
from denoise_jax.vocabulary.seqio import SeqioVocabulary

PAIR = {"inputs": [10, 11, 12, 13, 14, 15], "targets": [20, 21], "weight": [7]}


def with_special_tokens(vocabulary, lengths=None, *, targets=None, **languages):
    """PAIR in SeqIO with `add_special_tokens` as the one preprocessor."""
    features = {
        "inputs": seqio.Feature(vocabulary, dtype=tf.int32),
        "targets": seqio.Feature(targets or vocabulary, add_eos=False, dtype=tf.int32),
        "weight": seqio.Feature(seqio.PassThroughVocabulary(10), add_eos=False, dtype=tf.int32),
    }
    pair = {name: tf.constant([ids], tf.int32) for name, ids in PAIR.items()}
    task = seqio.Task(
        "pairs",
        source=seqio.FunctionDataSource(
            lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(pair), splits=["train"]
        ),
        preprocessors=[functools.partial(add_special_tokens, **languages)],
        output_features=features,
    )
    (example,) = task.get_dataset(lengths, "train", shuffle=False).as_numpy_iterator()
    return {name: values.tolist() for name, values in example.items()}


def test_sentencepiece_texts_are_closed_and_not_opened(vocabulary_folder):
    found = with_special_tokens(SeqioVocabulary(vocabulary_folder), {"inputs": 4, "targets": 8, "weight": 8})
    assert found == {"inputs": [10, 11, 12, 1], "targets": [20, 21, 1], "weight": [7]}


def test_bart_texts_are_opened_and_closed(bart_folder):
    vocabulary = SeqioVocabulary(bart_folder)
    found = with_special_tokens(vocabulary, {"inputs": 4, "targets": 8, "weight": 8})
    assert found == {"inputs": [3, 10, 11, 1], "targets": [3, 20, 21, 1], "weight": [7]}
    assert with_special_tokens(vocabulary)["inputs"] == [3, *PAIR["inputs"], 1], (
        "without lengths nothing is truncated"
    )
    own = load_vocabulary(bart_folder)
    theirs = own.hf_ids[found["targets"]].tolist()
    assert (theirs[0], theirs[-1]) == (0, 2)


def test_languages_follow_eos_and_that_of_the_targets_starts_the_decoder(mbart_folder, vocabulary_folder):
    own = load_vocabulary(mbart_folder)
    english, romanian = own.symbol_id("en_XX"), own.symbol_id("ro_RO")
    found = with_special_tokens(
        SeqioVocabulary(mbart_folder),
        {"inputs": 5, "targets": 4, "weight": 8},
        source_language="en_XX",
        target_language="ro_RO",
    )
    assert found["inputs"] == [10, 11, 12, 1, english]
    assert found["targets"] == [20, 21, 1, romanian]
    assert found["decoder_start"] == [romanian]
    with pytest.raises(DataError, match="add_special_tokens: target_language='xx' is not a control symbol"):
        with_special_tokens(SeqioVocabulary(vocabulary_folder), target_language="xx")


def test_languages_open_texts_in_mbart_50(mbart_folder, tmp_path):
    folder = shutil.copytree(mbart_folder, tmp_path / "mbart50")
    info = json.loads((folder / "vocabulary.json").read_text())
    (folder / "vocabulary.json").write_text(json.dumps({**info, "language_opens": True}))
    own = load_vocabulary(folder)
    english, romanian = own.symbol_id("en_XX"), own.symbol_id("ro_RO")
    lengths = {"inputs": 5, "targets": 4, "weight": 8}
    found = with_special_tokens(
        SeqioVocabulary(folder), lengths, source_language="en_XX", target_language="ro_RO"
    )
    assert found["inputs"] == [english, 10, 11, 12, 1]
    assert found["targets"] == [romanian, 20, 21, 1]
    assert "decoder_start" not in found, "the decoder starts from </s> and predicts the language"


def test_the_language_of_a_classified_text_starts_the_decoder(mbart_folder):
    english = load_vocabulary(mbart_folder).symbol_id("en_XX")
    classes = seqio.PassThroughVocabulary(30)
    found = with_special_tokens(SeqioVocabulary(mbart_folder), targets=classes, source_language="en_XX")
    assert found["inputs"][-2:] == [1, english]
    assert found["decoder_start"] == [english]


def test_class_labels_are_returned_unchanged(bart_folder):
    found = with_special_tokens(SeqioVocabulary(bart_folder), targets=seqio.PassThroughVocabulary(30))
    assert found == {**PAIR, "inputs": [3, *PAIR["inputs"], 1]}
