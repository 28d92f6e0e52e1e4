"""What the noise of a task does to many examples, counted: rates, spans, lengths, and what does not fit."""

from collections.abc import Mapping, Sequence

import numpy as np

from denoise_jax.corruption.record import Op, TargetNoise


class NoiseStatistics:
    """Adds up noised examples, one at a time; `summary` tells the shares."""

    def __init__(self, input_length: int | None = None):
        """Examples whose `inputs` are longer than `input_length`, </s> included, count as truncated.

        The examples that are added must not have been cut: what a cut would take is counted here.
        """
        self._input_length = input_length
        self._examples = self._truncated = 0
        self._text = self._hidden = self._deleted = 0
        self._replaced = self._inserted = self._moved = 0
        self._inputs = self._fitting = self._targets = 0
        self._spans = np.zeros(0, np.int64)

    def add(self, example: Mapping[str, np.ndarray]) -> None:
        """Counts an example with features as `data/preprocessors.py` makes them, `text_noise` among them.

        int32: `inputs_op`, `inputs_source`, `inputs_span` [n], `text_noise` [m] and `targets` [t]. The </s>
        that closes both sides counts in lengths, and in nothing else.
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
        self._text += len(noise)
        self._hidden += int(np.sum(noise == TargetNoise.COVERED))
        self._deleted += int(np.sum(noise == TargetNoise.DELETED))
        self._replaced += int(np.sum(op == Op.RANDOM))
        self._inserted += int(np.sum(op == Op.INSERT))
        self._moved += int(np.sum(moved(op, source)))
        lengths = span[(op != Op.KEEP) & (span > 1)] - 1
        counts = np.bincount(lengths, minlength=len(self._spans))
        counts[: len(self._spans)] += self._spans
        self._spans = counts

    def summary(self) -> dict:
        """What was counted, as numbers that JSON can hold.

        `hidden`, `deleted`, `replaced`, `inserted` and `moved` are shares of the tokens of the clean texts;
        replaced tokens are part of the hidden ones, and moved ones those whose target kind is MOVED. `spans`
        tells how many masks, sentinels and random tokens stand for 1, 2, ... tokens. `truncated` is a share
        of examples, `lost` of corrupted tokens; `mean_input_length` is what the cut leaves, and
        `length_ratio` that over `mean_target_length`.
        """
        lengths = np.flatnonzero(self._spans)
        return {
            "examples": self._examples,
            "text_tokens": self._text,
            "hidden": _share(self._hidden, self._text),
            "deleted": _share(self._deleted, self._text),
            "replaced": _share(self._replaced, self._text),
            "inserted": _share(self._inserted, self._text),
            "moved": _share(self._moved, self._text),
            "mean_span": _share(int(lengths @ self._spans[lengths]), int(self._spans.sum())),
            "spans": {str(length): int(self._spans[length]) for length in lengths},
            "mean_input_length": _share(self._fitting, self._examples),
            "mean_target_length": _share(self._targets, self._examples),
            "length_ratio": _share(self._fitting, self._targets),
            "truncated": _share(self._truncated, self._examples),
            "lost": _share(self._inputs - self._fitting, self._inputs),
        }


def moved(op: Sequence[int], source: Sequence[int]) -> np.ndarray:
    """Whether each corrupted token [n] shows a target token of kind MOVED (`target_kinds.py`): bool [n].

    It is kept, and the kept token before it is another than in the text. Of a run that moves that is the
    first token, and the first behind the place that it left. Without the </s> that closes an example.
    """
    kept = np.asarray(op, np.int32) == Op.KEEP
    rank = np.argsort(np.argsort(np.asarray(source, np.int32)[kept]))
    found = np.zeros(len(kept), bool)
    found[kept] = np.diff(rank, prepend=-1) != 1
    return found


def is_closed(ops, sources, text_length: int) -> bool:
    """Whether the last corrupted token is the </s> or language token that closes an example, and not text."""
    return len(ops) > 0 and ops[-1] == Op.KEEP and sources[-1] == text_length + 1


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
