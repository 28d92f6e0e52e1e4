"""Metrics on strings, in the form that SeqIO tasks carry them; no framework.

A metric takes `targets` and `predictions`, lists of equal length, and gives numbers by name, as shares of 1.
"""

import collections
import re
import string
from collections.abc import Mapping, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def accuracy(targets: Sequence, predictions: Sequence) -> dict[str, float]:
    """Share of predictions that equal their target, and what always giving the most frequent target would.

    Works for names of classes, compared as whole strings, and for class ids.
    """
    right = sum(target == prediction for target, prediction in zip(targets, predictions, strict=True))
    most_frequent = max(collections.Counter(targets).values(), default=0)
    count = max(len(targets), 1)
    return {"accuracy": right / count, "baseline_accuracy": most_frequent / count}


def squad(targets: Sequence[Sequence[str]], predictions: Sequence[str]) -> dict[str, float]:
    """Exact match and F1 over words of normalised answers (Rajpurkar et al. 2016), the best of each target's.

    Where an answer has no words, F1 is 1 if the other has none either, as in the script of SQuAD 2.0 (that
    of 1.1 gives 0). Its figures are percentages; these are shares of 1.
    """
    matches = f1 = 0.0
    for answers, prediction in zip(targets, predictions, strict=True):
        answers = answers or [""]  # a question without answer: nothing is right
        matches += max(normalise(answer) == normalise(prediction) for answer in answers)
        f1 += max(word_f1(answer, prediction) for answer in answers)
    count = max(len(targets), 1)
    return {"exact_match": matches / count, "f1": f1 / count}


def normalise(answer: str) -> str:
    """Lower case, no ASCII punctuation, no English articles, single spaces: as SQuAD compares answers."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_NO_PUNCTUATION)).split())


def word_f1(answer: str, prediction: str) -> float:
    """Harmonic mean of precision and recall over the words that two normalised texts share."""
    expected, found = normalise(answer).split(), normalise(prediction).split()
    if not expected or not found:
        return float(expected == found)
    shared = (collections.Counter(expected) & collections.Counter(found)).total()
    return 2 * shared / (len(expected) + len(found))


def all_answers(text: str, *, example: Mapping, is_target: bool) -> str | list[str]:
    """SeqIO `postprocess_fn` for `squad`: every answer of a target's example, and predictions as they are."""
    if not is_target:
        return text
    return [answer.decode() for answer in example["answers"]]
