"""Measures what the noise of a task does to many examples: rates, span lengths, truncation."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from denoise_jax.corruption.record import Op, TargetNoise
from denoise_jax.data import registry
from denoise_jax.errors import DataError
from denoise_jax.inspection.examples import noised_dataset

_UNTRUNCATED = 64  # times the length of the text; no noise makes inputs longer


def measure_noise(
    task: str,
    split: str = "train",
    *,
    task_modules: Sequence[str] = ("tasks",),
    max_examples: int = 1000,
    length: int = 512,
    input_length: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> dict:
    """Measures the noise of a task on the first examples of a split.

    Args:
      task: name of a task or mixture, registered by one of `task_modules`.
      length: maximum chunk length in tokens, including special tokens.
      input_length: length of the encoder's rows in tokens, including special tokens; default 2 * `length`.
      seed: seed of the noise.
      progress: called with (examples measured, max_examples) after every example.

    Returns:
      The arguments, and the statistics of `NoiseStatistics.summary`.

    Raises:
      DataError: the task or split does not exist, or its examples have no noise.
    """
    input_length = input_length or 2 * length
    dataset = noised_dataset(
        registry.find_task(task, task_modules),
        split,
        # Truncation is counted rather than done; the noise does not depend on it.
        input_length=_UNTRUNCATED * length,
        length=length,
        seed=seed,
    )
    statistics = NoiseStatistics(input_length)
    for done, example in enumerate(dataset.take(max_examples).as_numpy_iterator(), 1):
        statistics.add(example)
        if progress is not None:
            progress(done, max_examples)
    summary = statistics.summary()
    if not summary["examples"]:
        raise DataError(f"split {split!r} of task {task!r} has no text to measure noise on")
    arguments = {"task": task, "split": split, "length": length, "input_length": input_length, "seed": seed}
    return {**arguments, **summary}


class NoiseStatistics:
    """Accumulates noised examples; `summary` returns rates."""

    def __init__(self, input_length: int | None = None):
        """Examples whose `inputs` exceed `input_length`, special tokens included, count as truncated.

        The added examples must not have been truncated themselves.
        """
        self._input_length = input_length
        self._examples = self._truncated = 0
        self._text = self._masked = self._replaced = self._deleted = self._inserted = self._moved = 0
        self._inputs = self._fitting = self._targets = 0
        self._spans = np.zeros(0, np.int64)

    def add(self, example: Mapping[str, np.ndarray]) -> None:
        """Counts an example with the features of `data/preprocessors.py`, including `text_noise`.

        int32: `inputs_op`, `inputs_source`, `inputs_span` [n], `text_noise` [m] and `targets` [t]. The </s>
        that closes both sides counts only in lengths.
        """
        op, source, span, noise = (
            np.asarray(example[name]) for name in ("inputs_op", "inputs_source", "inputs_span", "text_noise")
        )
        length = len(op)
        if length and is_closed(op, source, len(noise)):
            op, source, span = op[:-1], source[:-1], span[:-1]
        fits = length if self._input_length is None else min(length, self._input_length)
        self._examples += 1
        self._truncated += fits < length
        self._inputs += length
        self._fitting += fits
        self._targets += len(example["targets"])
        covers = np.where(op == Op.KEEP, 0, span - 1)  # number of text tokens that a corrupted token covers
        self._text += len(noise)
        self._replaced += int(covers[op == Op.RANDOM].sum())
        self._masked += int(covers[op != Op.RANDOM].sum())
        self._deleted += int(np.sum(noise == TargetNoise.DELETED))
        self._inserted += int(np.sum(op == Op.INSERT))
        self._moved += int(np.sum(moved(op, source)))
        counts = np.bincount(covers[covers > 0], minlength=len(self._spans))
        counts[: len(self._spans)] += self._spans
        self._spans = counts

    def summary(self) -> dict:
        """The statistics as JSON values.

        `hidden`, its parts `masked`, `replaced` and `deleted`, and `inserted` and `moved` are shares of the
        tokens of the clean texts. `masked` tokens are covered by a mask or sentinel, `replaced` ones by a
        random token; `moved` tokens have target kind MOVED. `spans` counts the masks, sentinels and random
        tokens that cover 1, 2, ... tokens. `truncated` is a share of examples, `lost` of corrupted tokens;
        `mean_input_length` is measured after truncation, and `length_ratio` divides it by
        `mean_target_length`.
        """
        lengths = np.flatnonzero(self._spans)
        return {
            "examples": self._examples,
            "text_tokens": self._text,
            "hidden": _ratio(self._masked + self._replaced + self._deleted, self._text),
            "masked": _ratio(self._masked, self._text),
            "replaced": _ratio(self._replaced, self._text),
            "deleted": _ratio(self._deleted, self._text),
            "inserted": _ratio(self._inserted, self._text),
            "moved": _ratio(self._moved, self._text),
            "mean_span": _ratio(int(lengths @ self._spans[lengths]), int(self._spans.sum())),
            "spans": {str(length): int(self._spans[length]) for length in lengths},
            "mean_input_length": _ratio(self._fitting, self._examples),
            "mean_target_length": _ratio(self._targets, self._examples),
            "length_ratio": _ratio(self._fitting, self._targets),
            "truncated": _ratio(self._truncated, self._examples),
            "lost": _ratio(self._inputs - self._fitting, self._inputs),
        }


def moved(op: Sequence[int], source: Sequence[int]) -> np.ndarray:
    """Whether each corrupted token [n] shows a target token of kind MOVED (`target_kinds.py`): bool [n].

    It is kept, and the preceding kept token is not the one that precedes it in the text. In a run that moved,
    this is the first token; so is the first token after the place that the run left. The </s> that closes an
    example must not be passed.
    """
    kept = np.asarray(op, np.int32) == Op.KEEP
    rank = np.argsort(np.argsort(np.asarray(source, np.int32)[kept]))
    found = np.zeros(len(kept), bool)
    found[kept] = np.diff(rank, prepend=-1) != 1
    return found


def is_closed(ops: Sequence[int], sources: Sequence[int], text_length: int) -> bool:
    """Whether the last corrupted token is the </s> or language token that closes an example, not text."""
    return len(ops) > 0 and ops[-1] == Op.KEEP and sources[-1] == text_length + 1


def _ratio(part: int, total: int) -> float:
    return part / total if total else 0.0
