"""Labelled examples, questions and passages become inputs and targets, the same in every pass."""

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.data import finetuning, registry
from denoise_jax.data.finetuning import GAP
from denoise_jax.data.preprocessors import Reading
from denoise_jax.errors import DataError
from denoise_jax.vocabulary.base import EOS_ID
from denoise_jax.vocabulary.load import load_vocabulary
from tasks.finetune import CENTURY_NAMES  # registers them


def _out(preprocess, *examples) -> list[dict]:
    """What a preprocessor makes of examples of the same shapes."""
    dataset = tf.data.Dataset.from_tensors(examples[0])
    for example in examples[1:]:
        dataset = dataset.concatenate(tf.data.Dataset.from_tensors(example))
    return list(preprocess(dataset).as_numpy_iterator())


def test_classes_by_name_and_by_number():
    example = {"premise": "It rains.", "hypothesis": "It is wet.", "label": np.int64(1)}
    by_name = finetuning.classification(["premise", "hypothesis"], names=["no", "yes"])
    (found,) = _out(by_name, example)
    assert found == {"inputs": b"premise: It rains. hypothesis: It is wet.", "targets": b"yes"}
    (unlabelled,) = _out(by_name, {**example, "label": np.int64(-1)})
    assert unlabelled["targets"] == b""
    (found,) = _out(finetuning.classification(["premise"]), example)
    assert found["inputs"] == b"It rains."
    np.testing.assert_array_equal(found["targets"], np.array([1], np.int32), strict=True)


@pytest.mark.parametrize("nested", [False, True])
def test_questions_in_the_form_of_t5(nested):
    answers = ["Paris", "in Paris"]
    example = {"question": "Where?", "context": "It is in Paris.", "id": "q1"}
    (found,) = _out(
        finetuning.question_answering, {**example, "answers": {"text": answers} if nested else answers}
    )
    assert found["inputs"] == b"question: Where? context: It is in Paris."
    assert (found["targets"], found["id"]) == (b"Paris", b"q1")
    assert found["answers"].tolist() == [b"Paris", b"in Paris"]
    empty = tf.constant([], tf.string)
    (found,) = _out(finetuning.question_answering, {**example, "answers": empty})
    assert found["targets"] == b"" and len(found["answers"]) == 0


def test_passages_are_consecutive_sentences():
    text = "One is here.  Two is here. Three is rather long, is it not? Four. Five."
    found = _out(finetuning.passages(2), {"text": text, "year": 1790})
    expected = [b"One is here. Two is here.", b"Three is rather long, is it not? Four.", b"Five."]
    assert [example["text"] for example in found] == expected
    assert [len(example["sentences"]) for example in found] == [2, 2, 1]
    assert {int(example["year"]) for example in found} == {1790}
    short = _out(finetuning.passages(2, max_words=6), {"text": text, "year": 1790})
    assert [example["text"] for example in short] == [expected[0], expected[2]]


def test_cloze_answers_stand_in_the_context_and_fill_the_question(speeches):
    def questions(name):
        return lambda dataset: finetuning.cloze_question(name)(finetuning.passages(2)(dataset))

    first, again, other = (_out(questions(name), {"text": speeches[0]}) for name in ("a", "a", "b"))
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


def _open(task, split="validation"):
    return registry.open_shard(
        task,
        split,
        lengths={"inputs": 40, "targets": 12},
        num_shards=1,
        seed=0,
        training=False,
        how=Reading(),
    ).take(100)


def test_registered_tasks_give_ids_that_end(vocabulary_folder):
    vocabulary = load_vocabulary(vocabulary_folder)
    names, classes = (
        list(_open(registry.find_task(name, (), str(vocabulary_folder))).as_numpy_iterator())
        for name in ("quickstart_century", "quickstart_century_classes")
    )
    for one, two in zip(names, classes, strict=True):
        np.testing.assert_array_equal(one["inputs"], two["inputs"])
        assert len(one["inputs"]) <= 40 and one["inputs"][-1] == EOS_ID
        (number,) = two["targets"]
        assert vocabulary.decode(one["targets"]) == CENTURY_NAMES[number]
    for example in _open(
        registry.find_task("quickstart_cloze_qa", (), str(vocabulary_folder))
    ).as_numpy_iterator():
        assert example["targets"][-1] == EOS_ID and len(example["targets"]) <= 12


def test_targets_have_to_be_what_the_model_writes():
    text, classes = (registry.find_task(f"quickstart_century{end}", ()) for end in ("", "_classes"))
    finetuning.check_classes(text, None)
    finetuning.check_classes(classes, 4)
    with pytest.raises(DataError, match="'quickstart_century' are text, but model.num_classes=4"):
        finetuning.check_classes(text, 4)
    with pytest.raises(DataError, match="are ids of 4 classes, but model.num_classes=3"):
        finetuning.check_classes(classes, 3)
