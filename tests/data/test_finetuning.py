"""Labelled examples, questions and passages become inputs and targets, the same in every epoch."""

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.data import finetuning, registry
from denoise_jax.data.finetuning import GAP
from denoise_jax.errors import DataError
from denoise_jax.vocabulary.base import EOS_ID
from denoise_jax.vocabulary.load import load_vocabulary
from tasks.finetune import CENTURY_NAMES  # registers the tasks
from tests.data.helpers import open_task


def preprocessed(preprocess, *examples) -> list[dict]:
    """The output of a preprocessor for examples of equal shapes."""
    dataset = tf.data.Dataset.from_tensors(examples[0])
    for example in examples[1:]:
        dataset = dataset.concatenate(tf.data.Dataset.from_tensors(example))
    return list(preprocess(dataset).as_numpy_iterator())


def test_labels_become_names_or_indices():
    example = {"premise": "It rains.", "hypothesis": "It is wet.", "label": np.int64(1)}
    by_name = finetuning.classification(["premise", "hypothesis"], names=["no", "yes"])
    (found,) = preprocessed(by_name, example)
    assert found == {"inputs": b"premise: It rains. hypothesis: It is wet.", "targets": b"yes"}
    (unlabelled,) = preprocessed(by_name, {**example, "label": np.int64(-1)})
    assert unlabelled["targets"] == b""
    (found,) = preprocessed(finetuning.classification(["premise"]), example)
    assert found["inputs"] == b"It rains."
    np.testing.assert_array_equal(found["targets"], np.array([1], np.int32), strict=True)


@pytest.mark.parametrize("nested", [False, True])
def test_questions_take_t5s_format(nested):
    answers = ["Paris", "in Paris"]
    example = {"question": "Where?", "context": "It is in Paris.", "id": "q1"}
    (found,) = preprocessed(
        finetuning.question_answering, {**example, "answers": {"text": answers} if nested else answers}
    )
    assert found["inputs"] == b"question: Where? context: It is in Paris."
    assert (found["targets"], found["id"]) == (b"Paris", b"q1")
    assert found["answers"].tolist() == [b"Paris", b"in Paris"]
    empty = tf.constant([], tf.string)
    (found,) = preprocessed(finetuning.question_answering, {**example, "answers": empty})
    assert found["targets"] == b"" and len(found["answers"]) == 0


def test_passages_are_consecutive_sentences():
    text = "One is here.  Two is here. Three is rather long, is it not? Four. Five."
    found = preprocessed(finetuning.passages(2), {"text": text, "year": 1790})
    expected = [b"One is here. Two is here.", b"Three is rather long, is it not? Four.", b"Five."]
    assert [example["text"] for example in found] == expected
    assert [len(example["sentences"]) for example in found] == [2, 2, 1]
    assert {int(example["year"]) for example in found} == {1790}
    short = preprocessed(finetuning.passages(2, max_words=6), {"text": text, "year": 1790})
    assert [example["text"] for example in short] == [expected[0], expected[2]]


def test_cloze_answers_are_in_the_context_and_fill_the_gap(speeches):
    def questions(name):
        return lambda dataset: finetuning.cloze_question(name)(finetuning.passages(2)(dataset))

    first, again, other = (preprocessed(questions(name), {"text": speeches[0]}) for name in ("a", "a", "b"))
    assert len(first) > 100
    lengths = set()
    for example in first:
        (answer,) = example["answers"]
        filled = example["question"].replace(GAP.encode(), answer, 1)
        assert filled in example["context"] or GAP.encode() in example["context"]
        assert answer in example["context"]
        lengths.add(len(answer.split()))
    assert lengths == {1, 2, 3}
    asked = [[example["question"] for example in run] for run in (first, again, other)]
    assert asked[0] == asked[1]
    assert sum(one != two for one, two in zip(asked[0], asked[2], strict=True)) > 0.5 * len(first)


def test_registered_tasks_give_ids_that_end_in_eos(vocabulary_folder):
    own = load_vocabulary(vocabulary_folder)
    lengths = {"split": "validation", "input_limit": 40, "limit": 12}

    def read(name):
        return open_task(registry.find_task(name, (), own), **lengths).take(100).as_numpy_iterator()

    for one, two in zip(read("quickstart_century"), read("quickstart_century_classes"), strict=True):
        np.testing.assert_array_equal(one["inputs"], two["inputs"])
        assert len(one["inputs"]) <= 40 and one["inputs"][-1] == EOS_ID
        (century,) = two["targets"]
        assert own.decode(one["targets"]) == CENTURY_NAMES[century]
    for example in read("quickstart_cloze_qa"):
        assert example["targets"][-1] == EOS_ID and len(example["targets"]) <= 12


def test_targets_must_be_what_the_model_predicts():
    text, classes = (registry.find_task(f"quickstart_century{end}", ()) for end in ("", "_classes"))
    finetuning.check_classes(text, None)
    finetuning.check_classes(classes, 4)
    with pytest.raises(DataError, match="'quickstart_century' are text, but model.num_classes=4"):
        finetuning.check_classes(text, 4)
    with pytest.raises(DataError, match="are ids of 4 classes, but model.num_classes=3"):
        finetuning.check_classes(classes, 3)
