"""Documents become tokens, and chunks that end where sentences do."""

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.data.chunking import chunk_documents, tokenize_sentences
from denoise_jax.data.preprocessors import output_features
from denoise_jax.vocabulary.base import EOS_ID
from denoise_jax.vocabulary.load import load_vocabulary

LIMIT = 40


def documents_of(texts, vocabulary, **options):
    dataset = tf.data.Dataset.from_tensor_slices({"text": list(texts)})
    return tokenize_sentences(dataset, output_features(vocabulary), **options)


def pairs(dataset):
    return [(e["targets"], e["sentence_ids"]) for e in dataset.as_numpy_iterator()]


@pytest.fixture(scope="module")
def documents(vocabulary_folder, speeches):
    """(tokens, sentence ids) of each speech."""
    return pairs(documents_of(speeches, vocabulary_folder))


@pytest.fixture(scope="module")
def chunks(vocabulary_folder, speeches):
    """(tokens, sentence ids) of each chunk."""
    return pairs(chunk_documents(documents_of(speeches, vocabulary_folder), {"targets": LIMIT}))


def test_chunking_loses_nothing_and_keeps_the_order(documents, chunks):
    np.testing.assert_array_equal(
        np.concatenate([tokens for tokens, _ in documents]), np.concatenate([tokens for tokens, _ in chunks])
    )
    assert all(1 <= len(tokens) <= LIMIT - 1 for tokens, _ in chunks)


def test_chunks_end_where_sentences_do_and_are_filled_greedily(documents, chunks):
    expected = []
    for _, sentence_ids in documents:
        filled = 0
        for length in np.bincount(sentence_ids)[1:]:
            units = [LIMIT - 1] * (length // (LIMIT - 1)) + [length % (LIMIT - 1)]
            for unit in filter(None, units):
                if not filled or filled + unit > LIMIT - 1:
                    expected.append(0)
                    filled = 0
                expected[-1] += unit
                filled += unit
    assert [len(tokens) for tokens, _ in chunks] == expected


def test_sentences_count_from_one_in_every_chunk(chunks):
    for _, sentence_ids in chunks:
        assert sentence_ids[0] == 1
        assert set(np.diff(sentence_ids)) <= {0, 1}


def test_chunks_leave_room_for_the_tokens_that_open_texts(bart_folder, speeches):
    dataset = documents_of(speeches[:1], bart_folder)
    chunked = chunk_documents(dataset, {"targets": LIMIT}, output_features(bart_folder))
    assert max(len(tokens) for tokens, _ in pairs(chunked)) == LIMIT - 2


def test_without_lengths_documents_are_left_whole(documents, vocabulary_folder, speeches):
    whole = pairs(chunk_documents(documents_of(speeches, vocabulary_folder)))
    assert [len(tokens) for tokens, _ in whole] == [len(tokens) for tokens, _ in documents]


@pytest.mark.parametrize("name", ["vocabulary_folder", "bart_folder", "mbart_folder"])
def test_tokens_are_those_of_the_sentences_with_single_spaces(name, request, speeches):
    folder = request.getfixturevalue(name)
    own = load_vocabulary(folder)
    first, last = pairs(documents_of([speeches[0], " \n", "", "One. Two!\nThree"], folder))
    assert last[0].tolist() == own.encode("One. Two! Three")
    assert own.decode(first[0]) == own.decode(own.encode(" ".join(speeches[0].split())))
    assert last[1].max() == 3


def test_sentences_can_be_closed(vocabulary_folder):
    own = load_vocabulary(vocabulary_folder)
    ((tokens, sentence_ids),) = pairs(documents_of(["One. Two!"], vocabulary_folder, language="en_XX"))
    assert tokens.tolist() == [*own.encode("One."), EOS_ID, *own.encode("Two!"), EOS_ID]
    assert sentence_ids[-1] == 2
