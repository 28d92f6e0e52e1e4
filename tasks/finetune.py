"""Fine-tuning tasks on the corpus of quickstart.py: real text, offline, with the same held-out speeches.

Tasks:
  quickstart_century: two sentences of a speech → the name of its century, text-to-text.
  quickstart_century_classes: the same with the index of the century, 0 to 3, for a classification head.
  quickstart_cloze_qa: extractive question answering, text-to-text. The context is two sentences; the question
    is one of them with one to three words removed; the answer is these words, which the context contains.
"""

import seqio
import tensorflow as tf

from denoise_jax.data import finetuning
from denoise_jax.data import string_metrics as scores

from .quickstart import CENTURIES, VOCABULARY, SpeechSource, speeches

CENTURY_NAMES = ("eighteenth", "nineteenth", "twentieth", "twenty-first")
_QA_WORDS = 40  # longest context; with the question some 100 tokens
_BUFFER = 8192  # examples


def _read_speech(file: tf.Tensor) -> tf.data.Dataset:
    name = tf.strings.split(file, "/")[-1]  # starts with the year
    years = tf.constant(list(CENTURIES.values()))
    century = tf.argmax(tf.equal(years, tf.strings.substr(name, 0, 2)), output_type=tf.int32)
    return tf.data.Dataset.from_tensors({"text": tf.io.read_file(file), "century": century})


def _register(name: str, preprocessors: list, output_features: dict, **evaluation) -> None:
    files = speeches()
    counts = {split: len(found) for split, found in files.items()}
    seqio.TaskRegistry.add(
        name,
        source=SpeechSource(_read_speech, files, num_input_examples=counts),
        preprocessors=[*preprocessors, *finetuning.tokenized()],
        output_features=output_features,
        shuffle_buffer_size=_BUFFER,
        **evaluation,
    )


_register(
    "quickstart_century",
    [finetuning.passages(2), finetuning.classification(["text"], "century", CENTURY_NAMES)],
    finetuning.text_features(VOCABULARY),
    metric_fns=[scores.accuracy],
)
_register(
    "quickstart_century_classes",
    [finetuning.passages(2), finetuning.classification(["text"], "century")],
    finetuning.class_features(VOCABULARY, len(CENTURIES)),
    metric_fns=[scores.accuracy],
)
_register(
    "quickstart_cloze_qa",
    [
        finetuning.passages(2, max_words=_QA_WORDS),
        finetuning.cloze_question("quickstart_cloze_qa"),
        finetuning.question_answering,
    ],
    finetuning.text_features(VOCABULARY),
    metric_fns=[scores.squad],
    postprocess_fn=scores.all_answers,
)
