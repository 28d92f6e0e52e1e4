"""Vocabularies are trained on the texts of a task or on files."""

import pytest

from denoise_jax.data.train_vocabulary import train_vocabulary
from denoise_jax.errors import DataError, UserError
from denoise_jax.vocabulary.load import load_vocabulary


def test_files_make_a_vocabulary(tmp_path, speeches):
    (tmp_path / "speech.txt").write_text(speeches[0], encoding="utf-8")
    own = train_vocabulary(
        tmp_path / "v", files=[tmp_path / "speech.txt"], size=300, sentinels=4, control_symbols=["en_XX"]
    )
    assert (len(own), len(own.sentinel_ids)) == (300, 4)
    assert own.symbol_id("en_XX") is not None
    assert load_vocabulary(tmp_path / "v") == own


def test_a_task_makes_a_vocabulary_before_its_own_exists(tmp_path):
    own = train_vocabulary(tmp_path / "v", task="quickstart_mbart_18th", size=300, sentinels=0)
    assert own.decode(own.encode("Fellow citizens")) == "Fellow citizens"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either a task or text files"),
        ({"files": ["x"], "task": "quickstart"}, "either a task or text files"),
        ({"files": ["x"], "size": -3}, "size=-3 leaves no room"),
        ({"files": ["x"], "sentinels": -1}, "sentinels=-1 must be 0 or more"),
        ({"files": ["x"], "character_coverage": 0.1}, "between 0.98 and 1"),
        ({"files": ["nowhere.txt"]}, "cannot read nowhere.txt"),
        ({"task": "quickstrat"}, "did you mean quickstart"),
    ],
)
def test_impossible_arguments_are_refused_and_nothing_is_written(options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        train_vocabulary(tmp_path / "v", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_overwritten_by_a_folder(tmp_path):
    (tmp_path / "v").touch()
    (tmp_path / "empty.txt").touch()
    with pytest.raises(UserError, match="v is a file"):
        train_vocabulary(tmp_path / "v", files=[tmp_path / "empty.txt"])
    with pytest.raises(DataError, match="no text"):
        train_vocabulary(tmp_path / "w", files=[tmp_path / "empty.txt"])
