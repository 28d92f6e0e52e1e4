"""The same texts under every preset."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.presets import PRESETS
from denoise_jax.data import registry
from denoise_jax.inspection.examples import NoisedExample, TokenizedText, read_examples, text_vocabulary
from denoise_jax.vocabulary.base import Vocabulary


class Comparison(NamedTuple):
    """Texts under every preset, by the preset's name."""

    examples: dict[str, list[NoisedExample]]  # one per text
    skipped: dict[str, str]  # presets that cannot be built for the vocabulary, with the reason


def compare_presets(
    texts: Sequence[str], *, vocabulary: Vocabulary | str | os.PathLike | None = None, seed: int = 0
) -> Comparison:
    """Corrupts each text with every preset; see `corrupt` for the arguments and errors."""
    tokenized = [TokenizedText(text, vocabulary) for text in texts]
    examples, skipped = {}, {}
    for name in PRESETS:
        try:
            examples[name] = [text.corrupt(name, seed) for text in tokenized]
        except CorruptionError as error:
            skipped[name] = str(error)
    return Comparison(examples, skipped)


def compare_presets_on_task(
    task: str,
    split: str = "train",
    *,
    task_modules: Sequence[str] = ("tasks",),
    max_examples: int = 1,
    length: int = 64,
    seed: int = 0,
) -> Comparison:
    """Corrupts the clean texts of a task's first examples with every preset, in the task's vocabulary.

    See `read_examples` for the arguments and errors.
    """
    vocabulary = text_vocabulary(registry.find_task(task, task_modules))
    examples = read_examples(
        task, split, task_modules=task_modules, max_examples=max_examples, length=length, seed=seed
    )
    texts = [vocabulary.decode_pieces(example.text) for example in examples]
    return compare_presets(texts, vocabulary=vocabulary, seed=seed)
