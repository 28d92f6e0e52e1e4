"""Gap sentences: how many and which ones are hidden, inputs and outputs. Seeds are fixed. False-alarm rates
say how unlikely a failure by chance is after a change of the noise."""

import collections
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption.compose import chain
from denoise_jax.corruption.gap_sentences import STRATEGIES, gap_sentences
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.rates import Linear
from denoise_jax.corruption.record import Op, TargetNoise
from denoise_jax.corruption.sentence_permutation import sentence_permutation
from tests.corruption.helpers import (
    SYMBOLS,
    audit,
    batch_of,
    chi_square,
    draw_many,
    examples_of,
    keys_of,
    text_of,
)


def batch(texts, **options):
    """The clean record of texts that are lists of sentences."""
    ids = [[*itertools.chain.from_iterable(text)] for text in texts]
    numbers = [[n for n, sentence in enumerate(text) for _ in sentence] for text in texts]
    return batch_of(ids, numbers, **options)


def chosen(example) -> tuple[int, ...]:
    """The hidden sentences of a text whose order has not changed."""
    return tuple(dict.fromkeys(example.sentence_ids[example.target_noise == TargetNoise.COVERED].tolist()))


def f1(sentence: list[int], rest: list[int]) -> Fraction:
    """F1 of the unigrams of a sentence and the rest of its text, from precision and recall."""
    shared = (collections.Counter(sentence) & collections.Counter(rest)).total()
    if not shared:
        return Fraction(0)
    precision, recall = Fraction(shared, len(sentence)), Fraction(shared, len(rest))
    return 2 * precision * recall / (precision + recall)


def most_like_the_rest(text: list[list[int]], count: int) -> tuple[int, ...]:
    """The `count` sentences, counted from 1, with the largest F1 by definition; ties in order."""
    scores = [
        f1(own, [*itertools.chain.from_iterable(text[:i] + text[i + 1 :])]) for i, own in enumerate(text)
    ]
    best = sorted(range(len(text)), key=lambda i: (-scores[i], i))[:count]
    return tuple(sorted(i + 1 for i in best))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("ratio", [0.07, 0.3, 0.45, 1.0])
def test_the_number_of_sentences_is_exact(strategy, ratio):
    """int(max(sentences x ratio, 1)), with one sentence left; 0.07 x 100 is 7 despite floating point."""
    sizes = [*range(13), 20, 100]
    texts = [[[10 + i, 11 + i] for i in range(size)] for size in sizes]
    corrupt = gap_sentences(SYMBOLS, gap_sentences_ratio=ratio, strategy=strategy)
    for size, example in zip(sizes, examples_of(corrupt(batch(texts), keys_of(len(sizes)))), strict=True):
        audit(example)
        wanted = max(1, math.floor(Fraction(repr(ratio)) * size))
        assert len(chosen(example)) == min(wanted, max(size - 1, 1), size)
        assert np.sum(example.op == Op.MASK) == len(chosen(example))
        assert (example.span[example.op == Op.MASK] == 3).all()
        assert len(example.outputs) == 2 * len(chosen(example))


def test_random_subsets_are_uniform():
    """2 of 5 sentences, 10 subsets: p > 1e-4."""
    examples = draw_many(gap_sentences(SYMBOLS, gap_sentences_ratio=0.4), text_of(1, 2, 3, 1, 4), 4000)
    counts = collections.Counter(map(chosen, examples))
    subsets = [*itertools.combinations(range(1, 6), 2)]
    assert sum(counts[subset] for subset in subsets) == 4000
    assert chi_square([counts[subset] for subset in subsets], 1 / 10) > 1e-4


def test_lead_chooses_the_first_sentences():
    for example in draw_many(
        gap_sentences(SYMBOLS, gap_sentences_ratio=0.4, strategy="lead"), text_of(1, 2, 3, 1, 4), 5
    ):
        assert chosen(example) == (1, 2)
        assert example.ids.tolist() == [4, 4, *range(13, 21)]
        assert example.span.tolist() == [2, 3, *[2] * 8]
        assert example.outputs.tolist() == example.targets[:3].tolist() == [10, 11, 12]


def test_principal_chooses_the_sentence_most_similar_to_the_rest():
    texts = [
        [[10, 11, 12], [20, 21, 22, 23], [10, 20, 21], [30, 31]],
        [
            [10, 10, 10, 10],
            [10, 20, 21],
            [20, 21, 22],
        ],  # repetitions count as often as they occur in the rest: 1, 3, 2
        [[10, 11], [12, 13], [14, 15]],  # nothing shared: the first
        [[50], [10, 11], [10, 11]],  # a tie: the second
    ]
    corrupt = gap_sentences(SYMBOLS, gap_sentences_ratio=0.3, strategy="principal")
    assert [chosen(example) for example in examples_of(corrupt(batch(texts), keys_of(4)))] == [
        (3,),
        (2,),
        (1,),
        (2,),
    ]


@pytest.mark.parametrize("ratio", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_outputs_fill_in_the_masks(ratio, strategy):
    """Special tokens stay where they are, even inside sentences, and are not counted; 6 ends sentences."""
    random = np.random.default_rng(0)
    texts = [
        [
            random.choice([1, 2, 3, 6, *range(10, 18)], random.integers(1, 7)).tolist()
            for _ in range(random.integers(0, 7))
        ]
        for _ in range(60)
    ]
    corrupt = gap_sentences(SYMBOLS, gap_sentences_ratio=ratio, strategy=strategy)
    for sentences, example in zip(texts, examples_of(corrupt(batch(texts), keys_of(60))), strict=True):
        audit(example)
        written, places = example.outputs.tolist(), example.output_source.tolist()
        ids, sources = [], []
        for token, source, span, op in zip(
            example.ids, example.source, example.span, example.op, strict=True
        ):
            if op == Op.MASK:
                ids += written[: span - 1]
                sources += places[: span - 1]
                assert places[0] == source
                del written[: span - 1], places[: span - 1]
            else:
                ids.append(token)
                sources.append(source)
        assert not written
        assert ids == [*itertools.chain.from_iterable(sentences)]
        assert sources == [*range(1, len(ids) + 1)]
        text = [[token for token in sentence if token >= 10] for sentence in sentences]
        numbers = [number for number, sentence in enumerate(text, 1) if sentence]
        text = [sentence for sentence in text if sentence]
        wanted = min(max(1, math.floor(Fraction(repr(ratio)) * len(text))), max(len(text) - 1, 1), len(text))
        assert len(chosen(example)) == wanted
        if strategy == "principal":
            assert chosen(example) == tuple(numbers[i - 1] for i in most_like_the_rest(text, wanted))


def test_a_single_sentence_is_hidden():
    for strategy in STRATEGIES:
        for example in draw_many(gap_sentences(SYMBOLS, strategy=strategy), text_of(5), 3):
            audit(example)
            assert (example.ids.tolist(), example.span.tolist(), example.outputs.tolist()) == (
                [4],
                [6],
                [*range(10, 15)],
            )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_texts_without_sentences_are_unchanged(strategy):
    texts = [[], [[1, 2]], [[1], [2]]]
    for text, example in zip(
        texts, examples_of(gap_sentences(SYMBOLS, strategy=strategy)(batch(texts), keys_of(3))), strict=True
    ):
        audit(example)
        assert (example.ids.tolist(), example.outputs.tolist()) == (
            [*itertools.chain.from_iterable(text)],
            [],
        )


def test_sentences_are_chosen_in_the_permuted_order():
    corrupt = chain(
        [sentence_permutation(SYMBOLS), gap_sentences(SYMBOLS, gap_sentences_ratio=0.5, strategy="lead")]
    )
    firsts = set()
    for example in draw_many(corrupt, text_of(2, 3, 4, 5), 60):
        audit(example)
        assert (example.op[:2] == Op.MASK).all()
        assert (example.op[2:] == Op.KEEP).all()
        np.testing.assert_array_equal(example.source[:2], example.output_source[[0, example.span[0] - 1]])
        np.testing.assert_array_equal(example.outputs, 9 + example.output_source)
        firsts.add(tuple(example.span[:2]))
    assert len(firsts) == 12  # every pair of four, in both orders


def test_earlier_noise_is_left_alone():
    corrupt = chain([text_infilling(SYMBOLS), gap_sentences(SYMBOLS)])
    for example in draw_many(corrupt, text_of(10, 10, 10, 10), 20):
        audit(example)
        assert np.sum(example.target_noise == TargetNoise.COVERED) == 12 + len(example.outputs)


def test_a_schedule_is_evaluated_at_each_examples_step():
    steps = tf.constant([0, 500, 1000], tf.int64)
    corrupt = gap_sentences(SYMBOLS, gap_sentences_ratio=Linear(0.1, 0.5, steps=1000))
    examples = examples_of(corrupt(batch([[[10], [11]] * 5] * 3, steps=steps), keys_of(3)))
    assert [len(chosen(example)) for example in examples] == [1, 3, 5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gap_sentences_ratio": 1.5}, r"gap_sentences_ratio=1\.5"),
        ({"gap_sentences_ratio": -0.1}, r"gap_sentences_ratio=-0\.1"),
        ({"gap_sentences_ratio": 0}, "gap_sentences_ratio=0 leaves the decoder nothing"),
        ({"strategy": "greedy"}, "strategy='greedy' is unknown; choose one of random, lead, principal"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(CorruptionError, match=message):
        gap_sentences(SYMBOLS, **options)
