"""Metrics on strings, against examples worked by hand."""

import pytest

from denoise_jax.data.string_metrics import accuracy, all_answers, normalise, squad, word_f1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Eiffel Tower!", "eiffel tower"),
        ("an apple, a pear", "apple pear"),
        ("another theatre", "another theatre"),  # articles are whole words
        ("U.S.A.", "usa"),
        ("twenty-first", "twentyfirst"),
        (" The ", ""),
        ("Straße — 5", "straße — 5"),  # only ASCII punctuation is removed, as in SQuAD's script
    ],
)
def test_answers_are_normalised_as_squad_does(text, expected):
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("answer", "prediction", "expected"),
    [
        ("the Saint Bernadette", "Bernadette Soubirous", 0.5),
        ("a b c d", "b c", 0.8),  # "a" is an article: 2 of 3 and 2 of 2
        ("one one two", "one one one", 2 / 3),  # a word counts as often as both contain it
        ("the", "a", 1.0),  # neither has a word
        ("", "x", 0.0),
        ("x", "y", 0.0),
    ],
)
def test_f1(answer, prediction, expected):
    assert word_f1(answer, prediction) == pytest.approx(expected)


def test_squad_takes_the_best_answer():
    targets = [["in 1790", "1790"], ["Congress"], []]
    measured = squad(targets, ["1790.", "the Congress of states", ""])
    assert measured == pytest.approx({"exact_match": 2 / 3, "f1": (1 + 0.5 + 1) / 3})
    assert squad([[]], ["something"]) == {"exact_match": 0, "f1": 0}


def test_accuracy_of_names_and_of_ids():
    assert accuracy(["b", "a", "b"], ["b", "b", "B"]) == pytest.approx(
        {"accuracy": 1 / 3, "baseline_accuracy": 2 / 3}
    )
    assert accuracy([0, 1], [0, 1])["accuracy"] == 1
    assert accuracy([], []) == {"accuracy": 0, "baseline_accuracy": 0}


def test_all_answers_of_a_target():
    example = {"answers": [b"caf\xc3\xa9", b"x"]}
    assert all_answers("café", example=example, is_target=True) == ["café", "x"]
    assert all_answers("tea", example=example, is_target=False) == "tea"
