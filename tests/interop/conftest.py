"""A tokenizer and a folder that several files use."""

import pytest

from tests.interop.helpers import bart_like_tokenizer, write_folder


@pytest.fixture(scope="session")
def bpe_tokenizer(speeches):
    """The tokenizer of all folders here."""
    return bart_like_tokenizer(speeches[:1])


@pytest.fixture(scope="session")
def hf_folder(bpe_tokenizer, tmp_path_factory):
    """A BART folder, made without Transformers; copy it to change it."""
    return write_folder(tmp_path_factory.mktemp("hf") / "folder", bpe_tokenizer, dropout=0.2)
