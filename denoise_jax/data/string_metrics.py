"""Metrics on strings, as SeqIO tasks declare them; imports no framework.

A metric takes `targets` and `predictions`, lists of equal length, and returns numbers from 0 to 1 by name.
"""

import collections
import re
import string
from collections.abc import Mapping, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def accuracy(targets: Sequence, predictions: Sequence) -> dict[str, float]:
    """Share of predictions that equal their target, and that of always predicting the most frequent target.

    Targets are class names, compared as complete strings, or class ids.
    """
    right = sum(target == prediction for target, prediction in zip(targets, predictions, strict=True))
    most_frequent = max(collections.Counter(targets).values(), default=0)
    count = max(len(targets), 1)
    return {"accuracy": right / count, "baseline_accuracy": most_frequent / count}


def squad(targets: Sequence[Sequence[str]], predictions: Sequence[str]) -> dict[str, float]:
    """Exact match and word-level F1 of normalised answers, maximised over answers (Rajpurkar et al. 2016).

    If an answer has no words, F1 is 1 if the other has none either, as in the script of SQuAD 2.0 (SQuAD
    1.1's gives 0). The scripts report percentages; these are between 0 and 1.
    """
    matches = f1 = 0.0
    for answers, prediction in zip(targets, predictions, strict=True):
        answers = answers or [""]  # no prediction is right for an unanswerable question
        matches += max(normalise(answer) == normalise(prediction) for answer in answers)
        f1 += max(word_f1(answer, prediction) for answer in answers)
    count = max(len(targets), 1)
    return {"exact_match": matches / count, "f1": f1 / count}


def normalise(answer: str) -> str:
    """SQuAD's normalisation: lower case, no ASCII punctuation, no English articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_NO_PUNCTUATION)).split())


def word_f1(answer: str, prediction: str) -> float:
    """F1 of the multisets of words of two normalised texts."""
    expected, found = normalise(answer).split(), normalise(prediction).split()
    if not expected or not found:
        return float(expected == found)
    shared = (collections.Counter(expected) & collections.Counter(found)).total()
    return 2 * shared / (len(expected) + len(found))


def all_answers(text: str, *, example: Mapping, is_target: bool) -> str | list[str]:
    """SeqIO `postprocess_fn` for `squad`: all answers for a target; predictions are returned unchanged."""
    if not is_target:
        return text
    return [answer.decode() for answer in example["answers"]]
