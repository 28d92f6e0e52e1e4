"""Noise on token ids alone: other people's vocabularies, fixed lengths, T5's lengths, empty texts."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from denoise_jax.corruption.record import Op
from denoise_jax.corruption.symbols import Symbols
from denoise_jax.data import preprocessors
from denoise_jax.errors import DataError
from denoise_jax.target_kinds import TargetKind
from denoise_jax.vocabulary.base import EOS_ID
from denoise_jax.vocabulary.seqio import seqio_vocabulary


def _ids_task(texts, vocabulary, corruption, length=None, **options):
    """A task over ids, with another trainer's vocabulary perhaps; of one fixed length, if it is given."""

    def dataset(split, shuffle_files, seed=None):
        del split, shuffle_files, seed
        spec = {"targets": tf.TensorSpec([length], tf.int32)}
        return tf.data.Dataset.from_generator(
            lambda: ({"targets": ids} for ids in texts), output_signature=spec
        )

    feature = seqio.Feature(vocabulary, add_eos=False, dtype=tf.int32)
    return seqio.Task(
        "ids",
        source=seqio.FunctionDataSource(dataset, splits=["train"]),
        preprocessors=[preprocessors.corrupt("ids", corruption, **options)],
        output_features={"inputs": feature, "targets": feature},
    )


def test_ids_alone_are_a_task_of_two_lines(vocabulary_folder, read_task):
    """Fixed lengths, texts that are empty, and texts longer than the targets may be."""
    vocabulary = seqio_vocabulary(str(vocabulary_folder))
    texts = [np.arange(100 + i, 110 + i) for i in range(100)]
    for length in (10, None):
        examples = read_task(_ids_task(texts, vocabulary, "text_infilling", length))
        assert [example["targets"].tolist() for example in examples] == [[*ids, EOS_ID] for ids in texts]
        assert {np.sum(example["targets_kind"] == TargetKind.MASKED) for example in examples} == {3}
    some_empty = [ids[: i % 3] for i, ids in enumerate(texts)]
    examples = read_task(_ids_task(some_empty, vocabulary, "token_masking"))
    assert [len(example["targets"]) - 1 for example in examples] == [1, 2] * 33
    assert read_task(_ids_task([ids[:0] for ids in texts], vocabulary, "token_masking")) == []
    numbered = _ids_task(some_empty, vocabulary, "token_masking")
    number = lambda dataset: dataset.map(lambda e: {**e, "sentence_ids": tf.ones_like(e["targets"])})  # noqa: E731
    examples = read_task(numbered.replace(preprocessors=[number, *numbered.preprocessors]))
    assert [len(example["targets"]) - 1 for example in examples] == [1, 2] * 33
    for example in read_task(_ids_task(texts, vocabulary, "none"), limit=6):
        assert len(example["targets"]) == len(example["targets_kind"]) == 6
        assert example["targets"][-1] == EOS_ID


def test_other_vocabularies_need_their_symbols(read_task):
    vocabulary = seqio.ByteVocabulary(extra_ids=1)
    texts = [vocabulary.encode("A text of bytes.") for _ in range(10)]
    with pytest.raises(DataError, match="task 'ids': nothing tells the mask of a ByteVocabulary.*symbols"):
        read_task(_ids_task(texts, vocabulary, "text_infilling"))
    with pytest.raises(DataError, match="task 'ids': language='en' is a symbol of SentencePiece"):
        read_task(_ids_task(texts, vocabulary, "text_infilling", language="en"))
    with pytest.raises(DataError, match="task 'ids': its PassThroughVocabulary has no eos_id"):
        read_task(_ids_task(texts, seqio.PassThroughVocabulary(512), "text_infilling"))
    symbols = Symbols(mask_token=259, vocab_size=vocabulary.vocab_size, protected=(0, 1, 2))
    for example in read_task(_ids_task(texts, vocabulary, "text_infilling", symbols=symbols)):
        assert example["inputs"][-1] == example["targets"][-1] == vocabulary.eos_id
        assert 259 in example["inputs"]


def test_sentinels_suffice_for_the_longest_text_that_both_sides_hold(vocabulary_folder, read_task):
    """T5's way: texts without sentences, longer than what the decoder writes; and a word of one's own."""
    vocabulary = seqio_vocabulary(str(vocabulary_folder))
    texts = [np.arange(100, 500)] * 20
    for example in read_task(_ids_task(texts, vocabulary, "t5_span"), limit=90, input_limit=370):
        sentinels = example["inputs"][example["inputs_op"] == Op.SENTINEL]
        assert len(set(sentinels.tolist())) == len(sentinels) in (20, 21)
        assert len(example["targets"]) == 60 + len(sentinels) + 1
    for longest, options in ((488, {}), (600, {"max_tokens": 600})):
        refused = _ids_task(texts, vocabulary, "t5_span", **options)
        with pytest.raises(DataError, match=rf"max_tokens={longest} can need .* and the vocabulary has 24"):
            read_task(refused, limit=90, input_limit=400)
