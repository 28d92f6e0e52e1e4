"""SeqIO preprocessors of fine-tuning: labelled examples, questions and answers → `inputs` and `targets`.

`question_answering` and `classification` make strings (or class ids) of users' own data, and `passages` and
`cloze_question` make examples of plain documents. `tokenized` is what follows them in a task.
"""

from collections.abc import Mapping, Sequence

import seqio
import tensorflow as tf

from denoise_jax.corruption import keys
from denoise_jax.data.sentence_splitting import split_sentences
from denoise_jax.data.special_tokens import frame_pairs
from denoise_jax.errors import DataError
from denoise_jax.vocabulary.seqio import seqio_vocabulary

GAP = "..."  # stands in a cloze question for the words that were cut out

_HASHES = 2**62


def tokenized() -> list:
    """The end of a task's preprocessors: strings → ids, cut to the row, in the vocabulary's frame."""
    return [seqio.preprocessors.tokenize, frame_pairs]


def text_features(vocabulary: str) -> dict[str, seqio.Feature]:
    """Output features of a text-to-text task with the vocabulary at `vocabulary`, a folder or .model file."""
    feature = seqio.Feature(seqio_vocabulary(vocabulary), add_eos=True, dtype=tf.int32)
    return {"inputs": feature, "targets": feature}


def class_features(vocabulary: str, num_classes: int) -> dict[str, seqio.Feature]:
    """Output features of a task for a classification head: text inputs, one class id [1] as targets."""
    classes = seqio.Feature(seqio.PassThroughVocabulary(num_classes), add_eos=False, dtype=tf.int32)
    return {**text_features(vocabulary), "targets": classes}


def check_classes(task: seqio.Task | seqio.Mixture, num_classes: int | None) -> None:
    """DataError unless the targets of `task` are what the model writes: ids of its classes, or text."""
    vocabulary = task.output_features["targets"].vocabulary
    classes = vocabulary.vocab_size if isinstance(vocabulary, seqio.PassThroughVocabulary) else None
    if classes != num_classes:
        told = "text" if classes is None else f"ids of {classes} classes"
        raise DataError(
            f"the targets of task {task.name!r} are {told}, but model.num_classes={num_classes}: choose "
            f"another task, or begin a run with model.num_classes={classes}"
        )


def classification(texts: Sequence[str], label: str = "label", names: Sequence[str] | None = None):
    """Preprocessor: string features `texts` and an integer feature `label` → `inputs` and `targets`.

    One text is taken as it is; several are told apart by their names, as in T5 (Raffel et al. 2020, appendix
    D): "premise: ... hypothesis: ...". With `names` the target is the label's name, text-to-text (with no
    name, "", for a label that has none, as in unlabelled test splits); without them it is the label itself,
    int32 [1], for a head.
    """

    def example_of(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        parts = [example[texts[0]]]
        if len(texts) > 1:
            parts = [part for text in texts for part in (f"{text}:", example[text])]
        inputs = tf.strings.reduce_join(tf.stack(parts), separator=" ")
        number = tf.cast(example[label], tf.int32)
        if names is None:
            return {"inputs": inputs, "targets": number[None]}
        known = (number >= 0) & (number < len(names))
        return {"inputs": inputs, "targets": tf.gather([*names, ""], tf.where(known, number, len(names)))}

    return _mapped(example_of)


def question_answering(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Examples like SQuAD's (`question`, `context`, `answers`) → T5's form of them.

    `answers` are strings [n], or a dict with such a `text` as in TensorFlow Datasets. `inputs` becomes
    "question: ... context: ...", `targets` the first answer ("" where there is none), and `answers` [n] stays
    for the metrics, as does `id` where there is one.
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
    """Preprocessor: documents (`text`) → passages of so many consecutive sentences; the last may have fewer.

    `text` becomes the passage, with single spaces, and `sentences` [n] its sentences; other features are
    copied. Passages of more than `max_words` words are left out.
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

    The context is the passage. The question is one of its sentences with a run of 1 to `max_answer_words`
    words cut out, for which `GAP` stands; the answer is that run, and so a part of the context. Which one
    depends on `name` and the passage alone: the same passage has the same question in every epoch and run.
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
    """A number from 0 to `bound` - 1, int32, from the stream `name` of the key, an int64 scalar."""
    return tf.math.floormod(keys.draw(key, name), bound)


def _mapped(function):
    return lambda dataset: dataset.map(function, num_parallel_calls=tf.data.AUTOTUNE)
