"""Vocabularies from paths and from memory."""

import shutil

import pytest

from denoise_jax.errors import DataError
from denoise_jax.vocabulary.load import load_vocabulary, vocabulary_from_files


@pytest.mark.parametrize("name", ["vocabulary_folder", "bart_folder", "mbart_folder"])
def test_files_make_an_equal_vocabulary_without_a_folder(name, request, tmp_path):
    folder = shutil.copytree(request.getfixturevalue(name), tmp_path / "vocabulary")
    own = load_vocabulary(folder)
    assert own.files() == {file.name: file.read_bytes() for file in folder.iterdir()}
    shutil.rmtree(folder)
    again = vocabulary_from_files(own.files())
    assert again == own and hash(again) == hash(own)
    assert again.fingerprint() == own.fingerprint()
    assert again.encode("The state") == own.encode("The state")
    assert again.control_ids == own.control_ids


def test_vocabularies_differ_where_their_ids_do(vocabulary_folder, bart_folder, mbart_folder):
    found = {load_vocabulary(folder) for folder in (vocabulary_folder, bart_folder, mbart_folder)}
    assert len(found) == 3


def test_any_of_its_paths_opens_a_vocabulary(vocabulary_folder, bart_folder, tmp_path):
    shutil.copy(vocabulary_folder / "sentencepiece.model", tmp_path / "other.model")
    own = load_vocabulary(vocabulary_folder)
    assert load_vocabulary(vocabulary_folder / "sentencepiece.model").files() == own.files()
    assert load_vocabulary(str(tmp_path / "other.model")) == own
    assert load_vocabulary(bart_folder / "tokenizer.json") == load_vocabulary(bart_folder)


def test_paths_without_a_vocabulary_are_refused(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path / "nowhere.model", tmp_path):
        with pytest.raises(DataError, match="no vocabulary at .*denoise-jax vocab"):
            load_vocabulary(path)
