"""Chains and mixtures: composed provenance, accounts that add up, independent random streams.

Seeds are fixed. False-alarm rates say how unlikely a failure by chance is after a change of the noise.
"""

import math
import re

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax import corruption as noises
from denoise_jax.corruption.compose import chain, mixture
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.record import Op, TargetNoise, replay
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

POISSON = {"span_length": "poisson", "mean_span_length": 1.5}
MOVES = {
    "sentences": lambda s: noises.sentence_permutation(s),
    "half the sentences": lambda s: noises.sentence_permutation(s, permute_sentences=0.5),
    "rotation": lambda s: noises.document_rotation(s),
    "local shuffling of words": lambda s: noises.token_shuffling(s, shuffle_distance=2, unit="word"),
    "shuffling": lambda s: noises.token_shuffling(s, shuffle_distance=None),
}
HIDES = {
    "masking": lambda s: noises.token_masking(s, mask_prob=0.3, random_prob=0.3, keep_prob=0.2),
    "masking of words": lambda s: noises.token_masking(s, selection="bernoulli", whole_word=True),
    "replacement": lambda s: noises.token_replacement(s, source="text"),
    "insertion": lambda s: noises.token_insertion(s, insert_prob=0.3, mask_random=0.5),
    "rotation with a marker": lambda s: noises.document_rotation(s, sentinel=True),
    "infilling": lambda s: noises.text_infilling(s, **POISSON),
    "random infilling": lambda s: noises.text_infilling(s, mask_random=0.5, replace_length=-1, **POISSON),
    "overlapping words": lambda s: noises.text_infilling(s, whole_word=True, placement="overlap", **POISSON),
}
DELETES = {
    "deletion": lambda s: noises.token_deletion(s, deletion_prob=0.3),
    "infilling that deletes": lambda s: noises.text_infilling(s, replace_length=0, **POISSON),
    "mixture": lambda s: mixture(
        [(noises.token_deletion(s), 1.0, 800), (noises.text_infilling(s), 1.0, None)]
    ),
}
OUTPUT_SETTERS = {  # change what the decoder writes
    "span corruption": lambda s: noises.span_corruption(s, noise_density=0.5, max_tokens=64),
    "prefix": lambda s: noises.prefix_lm(s),
    "gap sentences": lambda s: noises.gap_sentences(s, strategy="principal"),
    "fragment": lambda s: noises.masked_fragment(s),
}
POOL = MOVES | HIDES | DELETES | OUTPUT_SETTERS


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("last", POOL)
def test_provenance_composes_through_any_chain(last, framed):
    """Up to three random members and then `last`."""
    random = np.random.default_rng([*POOL].index(last) + 100 * framed)
    names = [*random.choice([*MOVES, *HIDES, *DELETES], random.integers(0, 4)).tolist(), last]
    texts = [random.integers(0, 7, random.integers(0, 5)).tolist() for _ in range(30)]  # sentence lengths
    ids, sentences = [], []
    for lengths in texts:  # distinct tokens, a separator after each sentence, perhaps start and end
        own = [number for number, length in enumerate(lengths, 1) for _ in range(length + 1)]
        text = [6 if k + 1 == len(own) or own[k + 1] != own[k] else 10 + k for k in range(len(own))]
        ids.append([1, *text, 2] if framed else text)
        sentences.append([own[0], *own, own[-1]] if framed and own else [1, 1] if framed else own)
    noised = chain([POOL[name](SYMBOLS) for name in names])(batch_of(ids, sentences), keys_of(len(ids)))
    np.testing.assert_array_equal(replay(noised, 4), noised.ids)
    for text, example in zip(ids, examples_of(noised), strict=True):
        audit(example)
        np.testing.assert_array_equal(example.targets, text)
        protected = np.isin(example.targets, (1, 2))
        assert (example.target_noise[protected] == TargetNoise.VISIBLE).all() or "prefix" in names
        if set(names) <= {*MOVES, *HIDES}:
            assert not (example.target_noise == TargetNoise.DELETED).any()
        if set(names) <= {*MOVES}:
            np.testing.assert_array_equal(np.sort(example.ids), np.sort(example.targets))
            assert (example.op == Op.KEEP).all()
        if not set(names) & {*OUTPUT_SETTERS}:
            np.testing.assert_array_equal(example.outputs, text)
            assert framed <= (example.ids[-1:].tolist() == [2])


def test_masks_after_a_permutation_hide_neighbours_of_the_permuted_text():
    """A mask hides tokens that were adjacent when it was written, of which the first is its source."""
    permute, infill = sentence_permutation(SYMBOLS), text_infilling(SYMBOLS, span_length="poisson")
    noised = text_of(5, 8, 3, 9, 6)
    both = draw_many(chain([permute, infill]), noised, 40)
    permuted = draw_many(chain([permute]), noised, 40)
    for example, before in zip(both, permuted, strict=True):
        rebuilt = []
        for source, span, op in zip(example.source, example.span, example.op, strict=True):
            if op != Op.INSERT:
                at = before.source.tolist().index(source)
                rebuilt.extend(before.source[at : at + span - 1])
        np.testing.assert_array_equal(rebuilt, before.source)


def test_a_second_infilling_leaves_the_masks_of_the_first():
    first = text_infilling(SYMBOLS, mask_prob=0.5, span_length="poisson")
    twice = draw_many(chain([first, first]), text_of(40), 40)
    for example, before in zip(twice, draw_many(chain([first]), text_of(40), 40), strict=True):
        assert np.sum(example.target_noise == TargetNoise.COVERED) == 20 + 10  # half, then half of the rest
        counts = [np.isin(noised.op, (Op.MASK, Op.INSERT)).sum() for noised in (example, before)]
        assert counts[0] > counts[1]


@pytest.mark.parametrize(
    "options", [{"mask_prob": 0.1}, {"span_length": "geometric"}, {"zero_length_spans": False}]
)
def test_options_of_one_member_do_not_affect_another(options):
    """The order of sentences, inferred from the visible tokens, is that of the permutation alone."""
    noised = text_of(*[4] * 8)
    infill = text_infilling(SYMBOLS, **({"span_length": "poisson"} | options))
    alone = draw_many(chain([sentence_permutation(SYMBOLS)]), noised, 30)
    both = draw_many(chain([sentence_permutation(SYMBOLS), infill]), noised, 30)
    for example, before in zip(both, alone, strict=True):
        visible = example.source[example.op == Op.KEEP]
        np.testing.assert_array_equal(visible, before.source[np.isin(before.source, visible)])


def test_options_of_infilling_do_not_affect_its_other_draws():
    """Insertions, random tokens and replacement lengths do not change the spans."""
    plain = {"span_length": "poisson", "zero_length_spans": False}
    before = draw_many(text_infilling(SYMBOLS, **plain), text_of(80), 30)
    for options in ({"zero_length_spans": True}, {"mask_random": 0.5}):
        examples = draw_many(text_infilling(SYMBOLS, **(plain | options)), text_of(80), 30)
        for example, expected in zip(examples, before, strict=True):
            kept = example.op != Op.INSERT
            np.testing.assert_array_equal(example.source[kept], expected.source)
            np.testing.assert_array_equal(example.span[kept], expected.span)
    for example, expected in zip(
        draw_many(text_infilling(SYMBOLS, replace_length=-1, **plain), text_of(80), 30), before, strict=True
    ):
        np.testing.assert_array_equal(example.target_noise, expected.target_noise)


def test_a_corruption_that_occurs_twice_draws_independently():
    """The second order repeats the first with probability 1 / 120. Among 40 texts 5 repetitions have
    probability 1 in 48,000, the false-alarm rate."""
    permute = sentence_permutation(SYMBOLS)
    once = draw_many(chain([permute]), text_of(1, 1, 1, 1, 1), 40)
    twice = draw_many(chain([permute, permute]), text_of(1, 1, 1, 1, 1), 40)
    back = [np.array_equal(one.ids[one.ids - 10], two.ids) for one, two in zip(once, twice, strict=True)]
    assert sum(back) < 5


def test_the_empty_chain_is_the_identity():
    noised = text_of(3, 4)
    assert chain([])(noised, tf.constant([0], tf.int64)) is noised


# --- mixtures


def marked_by(token):
    """A corruption that leaves a trace: it replaces the first token of each text by `token`."""

    def corrupt(noised, keys):
        first = noised.partition.offsets == 0
        return noised._replace(ids=tf.where(first, token, noised.ids))

    return corrupt


def test_members_are_chosen_in_proportion_to_their_weights():
    """p > 1e-4; a member of weight 0 is never chosen."""
    weights = (1.0, 3.0, 0.0, 0.5, 0.0)
    both = mixture([(marked_by(500 + k), weight, None) for k, weight in enumerate(weights)])
    taken = np.array([example.ids[0] - 500 for example in draw_many(both, text_of(2), 9000)])
    assert set(taken.tolist()) == {0, 1, 3}
    assert chi_square(np.bincount(taken)[[0, 1, 3]], np.array([1.0, 3.0, 0.5]) / 4.5) > 1e-4


def test_adjacent_examples_choose_members_independently():
    """For consecutive keys the correlation of 9,000 choices is within 4.5 standard errors (1 in 150,000)."""
    both = mixture([(marked_by(500), 1.0, None), (marked_by(501), 1.0, None)])
    taken = np.array([example.ids[0] - 500 for example in draw_many(both, text_of(1), 9000)])
    assert abs(np.corrcoef(taken[1:], taken[:-1])[0, 1]) < 4.5 / math.sqrt(len(taken))


def test_mode_tokens_precede_the_text_and_examples_keep_their_order():
    corrupt = mixture([(chain([]), 1.0, 800), (chain([]), 1.0, 801), (chain([]), 1.0, None)])
    texts = [[10 + k] * (k % 4) for k in range(60)]
    steps = tf.range(60, dtype=tf.int64)
    noised = corrupt(batch_of(texts, steps=steps), keys_of(60))
    seen = set()
    for text, example in zip(texts, examples_of(noised), strict=True):
        modes = example.ids[: len(example.ids) - len(text)].tolist()
        assert example.ids[len(modes) :].tolist() == example.targets.tolist() == text
        assert example.op.tolist() == [Op.SENTINEL] * len(modes) + [Op.KEEP] * len(text)
        if modes:
            assert (example.source[0], example.span[0]) == (1, 1)
        audit(example)
        seen.add(tuple(modes))
    assert seen == {(800,), (801,), ()}
    np.testing.assert_array_equal(noised.steps, steps)


def test_a_mixture_of_one_is_that_member():
    """With its own random stream, as in a chain."""
    one = draw_many(mixture([(text_infilling(SYMBOLS), 2.0, None)]), text_of(9, 8), 20)
    np.testing.assert_equal(one, draw_many(chain([text_infilling(SYMBOLS)]), text_of(9, 8), 20))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([], r"members=\[\]"),
        ([0.0, 0.0], r"weights=\(0\.0, 0\.0\)"),
        ([1.0, -1.0], r"weights=\(1\.0, -1\.0\)"),
        ([math.inf], r"weights=\(inf,\)"),
        ([math.nan, 1.0], r"weights=\(nan, 1\.0\)"),
        (["1"], r"weights=\('1',\) must be finite numbers"),
        ([None, 1.0], r"weights=\(None, 1\.0\)"),
        ([True], r"weights=\(True,\)"),
    ],
)
def test_mixtures_without_members_or_valid_weights_are_refused(weights, message):
    with pytest.raises(CorruptionError, match=message):
        mixture([(chain([]), weight, None) for weight in weights])


def test_members_of_mixtures_must_be_triples():
    whole = (chain([]), 1.0, None)
    for member in ((chain([]), 1.0), chain([]), "abc", None):
        with pytest.raises(
            CorruptionError, match=r"members\[1\] of a mixture is .*; give \(corruption, weight"
        ):
            mixture([whole, member])
    for member in ((None, 1.0, None), ("bart_paper", 1.0, None)):
        with pytest.raises(CorruptionError, match=r"members\[1\] of a mixture is .*, not a corruption"):
            mixture([whole, member])
    with pytest.raises(CorruptionError, match=r"members\[0\] of a chain is 'bart_paper', not a corruption"):
        chain(["bart_paper"])


def test_mode_tokens_must_be_ids_or_none():
    for token in (0, -1, 1.5, "[R]", True, 2**31):
        with pytest.raises(
            CorruptionError,
            match=re.escape(f"mode_token={token!r} must be the id of a special token, 1 or more"),
        ):
            mixture([(chain([]), 1.0, token)])
    (example,) = draw_many(mixture([[chain([]), 1, np.int64(800)]]), text_of(2), 1)
    assert example.ids.tolist() == [800, 10, 11]


@pytest.mark.parametrize("second", ["prefix", "gap sentences", "span corruption", "fragment"])
def test_at_most_one_member_of_a_chain_sets_the_outputs(second):
    ul2, other = noises.build("ul2", SYMBOLS), POOL[second](SYMBOLS)
    for members in ([other, other], [ul2, other], [mixture([(other, 1, None), (chain([]), 1, None)]), ul2]):
        with pytest.raises(CorruptionError, match=r"members \[1, 3\] of a chain each set what the decoder"):
            chain([sentence_permutation(SYMBOLS), members[0], chain([]), members[1]])
    chain([sentence_permutation(SYMBOLS), ul2, text_infilling(SYMBOLS)])


def test_mode_tokens_must_be_protected_if_symbols_are_given():
    mixture([(chain([]), 1.0, 800)], symbols=SYMBOLS)
    for token in (50, 5000):
        with pytest.raises(CorruptionError, match=f"mode_token={token} is not a protected id"):
            mixture([(chain([]), 1.0, token)], symbols=SYMBOLS)
