"""Task `tiny`: BART's noise on the beginnings of four speeches, which costs a test little to read."""

import seqio
import tensorflow as tf

from denoise_jax.data import preprocessors
from tasks.quickstart import VOCABULARY, speeches

CHARACTERS = 24_000  # of each speech


def _read_beginning(file: tf.Tensor) -> tf.data.Dataset:
    """Documents of 2,000 characters."""
    text = tf.io.read_file(file)
    starts = tf.range(0, tf.minimum(tf.strings.length(text), CHARACTERS), 2000)
    documents = tf.strings.substr(tf.fill(tf.shape(starts), text), starts, 2000 * tf.ones_like(starts))
    return tf.data.Dataset.from_tensor_slices(
        {"text": tf.strings.unicode_transcode(documents, "UTF-8", "UTF-8")}
    )


_files = {split: files[-2:] if split == "train" else files[-1:] for split, files in speeches().items()}

seqio.TaskRegistry.add(
    "tiny",
    source=seqio.FileDataSource(_read_beginning, _files),
    preprocessors=preprocessors.denoising("tiny", "bart_paper"),
    output_features=preprocessors.output_features(VOCABULARY),
    shuffle_buffer_size=64,
)
