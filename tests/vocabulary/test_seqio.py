"""The SeqIO adapter: the same ids in a graph, one vocabulary object, files read at first use."""

import pytest
import seqio
import tensorflow as tf

from denoise_jax.errors import DataError
from denoise_jax.vocabulary.load import load_vocabulary, vocabulary_from_files
from denoise_jax.vocabulary.seqio import SeqioVocabulary, is_ours, of_seqio

TEXTS = ["The state", "", "naïve 😀 <mask> </s>", "  two  spaces "]


@pytest.fixture(params=["vocabulary_folder", "bart_folder", "mbart_folder"])
def own(request):
    return load_vocabulary(request.getfixturevalue(request.param))


def test_graph_and_python_give_the_same_ids(own, speeches):
    adapter = SeqioVocabulary(own)
    texts = [*TEXTS, speeches[0][:3000]]
    ragged = tf.function(adapter.encode_tf)(tf.constant(texts))
    assert ragged.dtype == tf.int32
    assert ragged.to_list() == [adapter.encode(text) for text in texts] == [own.encode(t) for t in texts]
    assert adapter.encode_tf(tf.constant(texts[2])).numpy().tolist() == own.encode(texts[2])
    assert adapter.encode_tf(tf.constant([], tf.string)).to_list() == []


def test_graph_and_python_decode_alike_and_stop_at_the_end(own):
    adapter = SeqioVocabulary(own)
    ids = own.encode("naïve so")
    assert adapter.decode_tf(tf.constant(ids)).numpy().decode() == adapter.decode(ids) == own.decode(ids)
    rows = [[*own.encode("so"), 1, 9], [*own.encode("to"), 0, 0]]
    length = max(map(len, rows))
    rows = tf.constant([row + [0] * (length - len(row)) for row in rows], tf.int32)
    assert [text.strip() for text in adapter.decode_tf(rows).numpy().tolist()] == [b"so", b"to"]


def test_sentencepiece_ids_are_those_of_seqios_own_vocabulary(vocabulary_folder, speeches):
    theirs = seqio.SentencePieceVocabulary(str(vocabulary_folder / "sentencepiece.model"))
    ours = SeqioVocabulary(vocabulary_folder)
    text = tf.constant([*TEXTS, speeches[0]])
    assert ours.encode_tf(text).to_list() == theirs.encode_tf(text).to_list()
    for name in ("pad_id", "eos_id", "unk_id", "bos_id", "vocab_size"):
        assert getattr(ours, name) == getattr(theirs, name)


def test_adapters_are_equal_where_their_vocabularies_are(own, vocabulary_folder):
    adapter = SeqioVocabulary(own)
    again = SeqioVocabulary(vocabulary_from_files(own.files()))
    assert adapter == again and hash(adapter) == hash(again)
    assert (adapter == SeqioVocabulary(vocabulary_folder)) == (own == load_vocabulary(vocabulary_folder))
    assert adapter != seqio.ByteVocabulary()


def test_the_adapter_carries_the_object(own):
    assert of_seqio(SeqioVocabulary(own)) is own


def test_a_path_is_read_at_first_use_and_once(vocabulary_folder, tmp_path):
    missing = SeqioVocabulary(tmp_path / "later")
    assert missing == SeqioVocabulary(str(tmp_path / "later"))
    with pytest.raises(DataError, match="no vocabulary at .*later"):
        missing.vocabulary  # noqa: B018
    lazy = SeqioVocabulary(vocabulary_folder)
    assert lazy.vocabulary is lazy.vocabulary


def test_plain_seqio_vocabularies_are_accepted(vocabulary_folder):
    plain = seqio.SentencePieceVocabulary(str(vocabulary_folder / "sentencepiece.model"))
    assert is_ours(plain)
    assert of_seqio(plain) == load_vocabulary(vocabulary_folder)
    assert of_seqio(plain) is of_seqio(plain)
    assert not is_ours(seqio.ByteVocabulary()) and not is_ours(seqio.PassThroughVocabulary(3))
