"""Every draw has its own random stream: changing one option leaves all other draws alone.

test_chains.py covers infilling and chains, and test_masking.py masking. Seeds are fixed; a draw that depended
on another option would pass a test here less than once in a million.
"""

import itertools

import numpy as np
import pytest

from denoise_jax import corruption as noises
from denoise_jax.corruption.record import Op, TargetNoise
from tests.corruption.helpers import SYMBOLS, draw_many, text_of

KEYS = 30


def field(corruption, noised, name="source") -> np.ndarray:
    """One field of the examples under all keys: [keys, n]."""
    return np.stack([getattr(example, name) for example in draw_many(corruption, noised, KEYS)])


def moved(source) -> np.ndarray:
    """Whether the token at each position is not the original one: bool, in the shape of `source`."""
    return source != np.arange(1, source.shape[-1] + 1)


def pattern(order) -> list[int]:
    """The order of the tokens that moved, renumbered."""
    return np.unique(order[moved(order)], return_inverse=True)[1].tolist()


def nested(smaller, greater) -> bool:
    """Whether all flags [keys, n] are set in `greater` too; both vary, and they differ."""
    assert 0 < smaller.sum() < greater.sum() < greater.size
    return not (smaller & ~greater).any()


@pytest.mark.parametrize("unit", ["token", "word"])
@pytest.mark.parametrize("distance", [2, None])
def test_a_share_that_rounds_up_to_all_shuffles_like_1(distance, unit):
    """ceil(.999 x 20) = 20, by another code path."""
    orders = [
        field(
            noises.token_shuffling(SYMBOLS, shuffle_distance=distance, shuffle_prob=share, unit=unit),
            text_of(20),
        )
        for share in (1.0, 0.999)
    ]
    assert moved(orders[0]).any(1).all()
    np.testing.assert_array_equal(*orders)


@pytest.mark.parametrize("distance", [6, None])
def test_a_share_is_shuffled_like_a_text_of_that_length(distance):
    """10 of 20 tokens get the order that a text of 10 tokens gets."""
    options = {"shuffle_distance": distance}
    alone = field(noises.token_shuffling(SYMBOLS, **options), text_of(10))
    some = field(noises.token_shuffling(SYMBOLS, shuffle_prob=0.5, **options), text_of(20))
    assert len({str(pattern(order)) for order in alone}) > KEYS // 2
    for own, order in zip(alone, some, strict=True):
        assert pattern(own) == pattern(order)


def test_which_tokens_are_shuffled_is_independent_of_the_distance():
    """The same 10 of 30 tokens move, or some of them, at any distance; a smaller share is a subset."""
    flags = [
        moved(field(noises.token_shuffling(SYMBOLS, shuffle_distance=d, shuffle_prob=p), text_of(30)))
        for d, p in ((None, 1 / 3), (2, 1 / 3), (9, 1 / 3), (None, 0.2))
    ]
    assert np.sum(flags[0], 1).mean() > 8
    assert (np.any(flags, 0).sum(1) <= 10).all()


def test_a_large_distance_shuffles_like_no_limit():
    """A distance of a million moves a token in 1 of 250 orders by one place: 3 of 30 have probability 1 /
    4,000."""
    orders = [
        field(noises.token_shuffling(SYMBOLS, shuffle_distance=distance), text_of(20))
        for distance in (10**6, None)
    ]
    assert (orders[0] != orders[1]).any(1).sum() < 3


def test_a_share_that_rounds_up_to_all_permutes_like_1():
    orders = [
        field(noises.sentence_permutation(SYMBOLS, permute_sentences=share), text_of(2, 3, 1, 4, 2, 5, 1, 2))
        for share in (1.0, 0.999)
    ]
    assert len({str(order) for order in orders[0]}) == KEYS
    np.testing.assert_array_equal(*orders)


def test_a_larger_share_of_sentences_contains_the_smaller():
    """At most 10 of 20 sentences move, and a quarter moves at most 5 of these."""
    half, quarter = (
        moved(field(noises.sentence_permutation(SYMBOLS, permute_sentences=share), text_of(*[1] * 20)))
        for share in (0.5, 0.25)
    )
    assert half.sum(1).mean() > 8 and quarter.sum(1).mean() > 3
    assert ((half | quarter).sum(1) <= 10).all()


@pytest.mark.parametrize("options", [{}, {"selection": "bernoulli"}, {"whole_word": True}])
def test_a_larger_deletion_contains_the_smaller(options):
    deleted = [
        field(noises.token_deletion(SYMBOLS, deletion_prob=share, **options), text_of(40), "target_noise")
        == TargetNoise.DELETED
        for share in (0.1, 0.3, 0.7)
    ]
    assert all(itertools.starmap(nested, itertools.pairwise(deleted)))


@pytest.mark.parametrize(
    "build",
    [
        lambda s, share: noises.token_masking(s, mask_prob=share, keep_prob=0.0),
        lambda s, share: noises.token_masking(s, mask_prob=share, keep_prob=0.0, selection="bernoulli"),
        lambda s, share: noises.token_replacement(s, replace_prob=share),
        lambda s, share: noises.gap_sentences(s, gap_sentences_ratio=share),
    ],
    ids=["masking", "bernoulli masking", "replacement", "gap sentences"],
)
def test_a_larger_share_hides_what_a_smaller_hides(build):
    hidden = [
        field(build(SYMBOLS, share), text_of(*[1, 2, 1] * 10), "target_noise") == TargetNoise.COVERED
        for share in (0.1, 0.3, 0.7)
    ]
    assert all(itertools.starmap(nested, itertools.pairwise(hidden)))


def test_replaced_positions_are_independent_of_the_replacements():
    ids = [
        field(noises.token_replacement(SYMBOLS, source=s), text_of(40), "ids") for s in ("vocabulary", "text")
    ]
    assert (ids[0] != ids[1]).any()
    ops = [
        field(noises.token_replacement(SYMBOLS, source=s), text_of(40), "op") for s in ("vocabulary", "text")
    ]
    np.testing.assert_array_equal(*ops)


def test_positions_of_insertions_are_independent_of_what_is_inserted():
    """A larger mask_random makes more of them random, and leaves those that were random unchanged."""
    build = noises.token_insertion
    masks, some, more = (
        {
            name: field(build(SYMBOLS, insert_prob=0.5, mask_random=share), text_of(20), name)
            for name in ("ids", "op", "source")
        }
        for share in (0.0, 0.3, 0.7)
    )
    for other in (some, more):
        np.testing.assert_array_equal(masks["op"], other["op"])
        np.testing.assert_array_equal(masks["source"], other["source"])
    random, more_random = (own["ids"] != masks["ids"] for own in (some, more))
    assert nested(random, more_random)
    np.testing.assert_array_equal(some["ids"][random], more["ids"][random])


def test_the_sentinel_does_not_affect_the_rotation():
    plain = field(noises.document_rotation(SYMBOLS), text_of(30))
    with_sentinel = field(noises.document_rotation(SYMBOLS, sentinel=True), text_of(30))
    ops = field(noises.document_rotation(SYMBOLS, sentinel=True), text_of(30), "op")
    assert len(set(plain[:, 0].tolist())) > 10
    np.testing.assert_array_equal(plain, with_sentinel[ops == Op.KEEP].reshape(plain.shape))


def test_the_share_of_rotated_texts_does_not_affect_the_rotations():
    """A larger share rotates the same texts, to the same tokens, and others."""
    every, more, some = (
        field(noises.document_rotation(SYMBOLS, rotate_prob=share), text_of(30)) for share in (1.0, 0.7, 0.3)
    )
    turned = [moved(order).any(1) for order in (some, more)]
    assert nested(*turned)
    for order, own in zip((some, more), turned, strict=True):
        np.testing.assert_array_equal(order[own], every[own])


TURNED = [{}, {"noise_density": 0.3}, {"mean_noise_span_length": 2.0}]
UNTURNED = {"noise_density": 0.4, "mean_noise_span_length": 3.0, "max_tokens": 64}


def rotations(rolled, line) -> list[set[int]]:
    """For each key, the rotations that take the hidden tokens on the line to those on the ring."""
    return [
        {turn for turn in range(len(own)) if np.array_equal(np.roll(before, turn), own)}
        for own, before in zip(rolled, line, strict=True)
    ]


def test_the_ring_hides_the_rotated_spans_of_the_line():
    """Of 40 tokens some 14 are hidden in 5 spans, which are never rotations of each other by chance. The
    rotation does not depend on what is hidden."""
    found = []
    for options in TURNED:
        ring, line = (
            field(
                noises.span_corruption(SYMBOLS, random_roll=roll, **(UNTURNED | options)),
                text_of(40),
                "target_noise",
            )
            == TargetNoise.COVERED
            for roll in (True, False)
        )
        assert len({str(example) for example in line}) == KEYS
        found.append(rotations(ring, line))
    common = [set.intersection(*of_key) for of_key in zip(*found, strict=True)]
    assert all(len(turn) == 1 for turn in common)
    assert len(set.union(*common)) > 10


def test_how_a_fragment_is_hidden_does_not_affect_its_position():
    """Nor does keep_prob affect which tokens are random, or the random tokens themselves."""

    def drawn(**options):
        options = {"random_prob": 0.0, "keep_prob": 0.0} | options
        names = ("output_source", "op", "ids")
        return {name: field(noises.masked_fragment(SYMBOLS, **options), text_of(40), name) for name in names}

    plain, random, kept, both = (
        drawn(**options)
        for options in (
            {},
            {"random_prob": 0.3},
            {"keep_prob": 0.3},
            {"random_prob": 0.3, "keep_prob": 0.3},
        )
    )
    assert len(set(plain["output_source"][:, 0].tolist())) > 10
    for other in (random, kept, both):
        np.testing.assert_array_equal(plain["output_source"], other["output_source"])
    assert (random["op"] == Op.RANDOM).any() and (kept["op"] != plain["op"]).any()
    np.testing.assert_array_equal(random["op"] == Op.RANDOM, both["op"] == Op.RANDOM)
    np.testing.assert_array_equal(kept["op"] == Op.KEEP, both["op"] == Op.KEEP)
    is_random = both["op"] == Op.RANDOM
    np.testing.assert_array_equal(random["ids"][is_random], both["ids"][is_random])


def test_edge_prob_does_not_affect_the_other_starts():
    """A fragment at neither edge starts where it starts with edge_prob=0."""
    starts = [
        field(noises.masked_fragment(SYMBOLS, edge_prob=edge), text_of(40), "output_source")[:, 0]
        for edge in (0.0, 0.3)
    ]
    between = (starts[1] > 1) & (starts[1] < 21)
    assert 5 < between.sum() < KEYS
    np.testing.assert_array_equal(starts[0][between], starts[1][between])


def test_the_weights_of_a_mixture_do_not_affect_its_members():
    """An example with the same member under different weights has the same noise."""
    mask = noises.token_masking(SYMBOLS, random_prob=0.0, keep_prob=0.0)
    ids, ops = (
        [
            field(
                noises.mixture([(mask, 1.0, None), (noises.token_replacement(SYMBOLS), weight, None)]),
                text_of(40),
                name,
            )
            for weight in (1.0, 3.0)
        ]
        for name in ("ids", "op")
    )
    same = ops[0].max(1) == ops[1].max(1)
    assert 0 < (~same).sum() < KEYS // 2 < same.sum()
    np.testing.assert_array_equal(ids[0][same], ids[1][same])
