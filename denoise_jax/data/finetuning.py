"""SeqIO preprocessors for fine-tuning: labelled examples, questions and answers → `inputs` and `targets`.

`question_answering` and `classification` format users' own data as strings (or class ids); `passages` and
`cloze_question` make examples from plain documents. `tokenized` comes last in a task.
"""

import os
from collections.abc import Mapping, Sequence

import seqio
import tensorflow as tf

from denoise_jax.corruption import keys
from denoise_jax.data.preprocessors import output_features
from denoise_jax.data.sentence_splitting import split_sentences
from denoise_jax.data.special_tokens import add_special_tokens
from denoise_jax.errors import DataError
from denoise_jax.vocabulary.base import Vocabulary

GAP = "..."  # replaces the removed words in a cloze question

_HASHES = 2**62


def tokenized() -> list:
    """Last preprocessors of a task: strings → ids, truncated, with the vocabulary's special tokens."""
    return [seqio.preprocessors.tokenize, add_special_tokens]


def text_features(vocabulary: Vocabulary | str | os.PathLike) -> dict[str, seqio.Feature]:
    """Output features of a text-to-text task. A vocabulary given by its path is read at first use."""
    return output_features(vocabulary)


def class_features(vocabulary: Vocabulary | str | os.PathLike, num_classes: int) -> dict[str, seqio.Feature]:
    """Output features of a task for a classification head: text as inputs, one class id [1] as targets."""
    classes = seqio.Feature(seqio.PassThroughVocabulary(num_classes), add_eos=False, dtype=tf.int32)
    return {**text_features(vocabulary), "targets": classes}


def check_classes(task: seqio.Task | seqio.Mixture, num_classes: int | None) -> None:
    """DataError unless the targets of `task` are what the model predicts: ids of its classes, or text."""
    vocabulary = task.output_features["targets"].vocabulary
    classes = vocabulary.vocab_size if isinstance(vocabulary, seqio.PassThroughVocabulary) else None
    if classes != num_classes:
        actual = "text" if classes is None else f"ids of {classes} classes"
        raise DataError(
            f"the targets of task {task.name!r} are {actual}, but model.num_classes={num_classes}: choose "
            f"another task, or start a run with model.num_classes={classes}"
        )


def classification(texts: Sequence[str], label: str = "label", names: Sequence[str] | None = None):
    """Preprocessor: string features `texts` and an integer feature `label` → `inputs` and `targets`.

    A single text is used unchanged; several are prefixed with their names, as in T5 (Raffel et al. 2020,
    appendix D): "premise: ... hypothesis: ...". With `names`, for text-to-text, the target is the name of the
    label, or "" for a label out of bounds, as in unlabelled test splits. Without, for a classification head,
    it is the label itself, int32 [1].
    """

    def example_of(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        parts = [example[texts[0]]]
        if len(texts) > 1:
            parts = [part for text in texts for part in (f"{text}:", example[text])]
        inputs = tf.strings.reduce_join(tf.stack(parts), separator=" ")
        index = tf.cast(example[label], tf.int32)
        if names is None:
            return {"inputs": inputs, "targets": index[None]}
        known = (index >= 0) & (index < len(names))
        return {"inputs": inputs, "targets": tf.gather([*names, ""], tf.where(known, index, len(names)))}

    return _mapped(example_of)


def question_answering(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Examples like SQuAD's (`question`, `context`, `answers`) → T5's format.

    `answers` are strings [n], or a dict with such a `text` as in TensorFlow Datasets. `inputs` becomes
    "question: ... context: ..." and `targets` the first answer, or "" if there is none. For the metrics,
    `answers` [n] is kept, and `id` if present.
    """

    def example_of(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        answers = example["answers"]
        answers = answers["text"] if isinstance(answers, Mapping) else answers
        parts = ["question:", example["question"], "context:", example["context"]]
        kept = {name: example[name] for name in ("id",) if name in example}
        return {
            "inputs": tf.strings.reduce_join(tf.stack(parts), separator=" "),
            "targets": tf.concat([answers, [""]], 0)[0],
            "answers": answers,
            **kept,
        }

    return _mapped(example_of)(dataset)


def passages(sentences: int, max_words: int | None = None):
    """Preprocessor: documents (`text`) → passages of consecutive sentences; the last may have fewer.

    `text` becomes the passage, with single spaces, and `sentences` [n] its sentences; other features are
    copied. Passages of more than `max_words` words are dropped.
    """

    def cut(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        found = tf.strings.regex_replace(split_sentences(example["text"]), r"\s+", " ")
        passage = tf.range(tf.size(found)) // sentences
        rows = tf.RaggedTensor.from_value_rowids(found, passage, validate=False)
        others = {
            name: tf.repeat(value[None], rows.nrows(), axis=0)
            for name, value in example.items()
            if name != "text"
        }
        return {**others, "text": tf.strings.reduce_join(rows, axis=1, separator=" "), "sentences": rows}

    def preprocess(dataset: tf.data.Dataset) -> tf.data.Dataset:
        dataset = _mapped(cut)(dataset).unbatch()
        if max_words is None:
            return dataset
        return dataset.filter(lambda example: tf.size(tf.strings.split(example["text"])) <= max_words)

    return preprocess


def cloze_question(name: str, max_answer_words: int = 3):
    """Preprocessor: passages → `question`, `context`, `answers` [1], for `question_answering`.

    The context is the passage. The question is one of its sentences in which `GAP` replaces 1 to
    `max_answer_words` consecutive words; these are the answer, which is therefore a part of the context. The
    choice depends only on `name` and the passage, so it is the same in every epoch and run.
    """

    def ask(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        content = tf.strings.to_hash_bucket_fast(example["text"], _HASHES)
        sentence = _below(tf.size(example["sentences"]), content, f"{name}/sentence")
        words = tf.strings.split(example["sentences"][sentence])
        length = 1 + _below(tf.minimum(max_answer_words, tf.size(words)), content, f"{name}/length")
        start = _below(tf.size(words) - length + 1, content, f"{name}/start")
        end = start + length
        question = tf.concat([words[:start], [GAP], words[end:]], 0)
        return {
            "question": tf.strings.reduce_join(question, separator=" "),
            "context": example["text"],
            "answers": tf.strings.reduce_join(words[start:end], separator=" ")[None],
        }

    return _mapped(ask)


def _below(bound: tf.Tensor, key: tf.Tensor, name: str) -> tf.Tensor:
    """A random int32 from 0 to `bound` - 1 from the stream `name` of the key, an int64 scalar."""
    return tf.math.floormod(keys.draw(key, name), bound)


def _mapped(function):
    return lambda dataset: dataset.map(function, num_parallel_calls=tf.data.AUTOTUNE)
