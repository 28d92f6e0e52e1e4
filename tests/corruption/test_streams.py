"""Every draw has a stream of its own: changing one option leaves the others' draws as they were.

Of infilling and of chains this is told in test_chains.py, of masking in test_masking.py. Seeds are fixed; a
draw that followed another option would pass a test here less than once in a million.
"""

import itertools

import numpy as np
import pytest

from denoise_jax import corruption as noises
from denoise_jax.corruption.record import Op, TargetNoise
from tests.corruption.helpers import SYMBOLS, draw_many, text_of

KEYS = 30


def column(corruption, noised, name="source") -> np.ndarray:
    """One field of the examples under all keys: [keys, n]."""
    return np.stack([getattr(example, name) for example in draw_many(corruption, noised, KEYS)])


def moved(source) -> np.ndarray:
    """Whether each place holds another token than in the text: bool, shape of `source`."""
    return source != np.arange(1, source.shape[-1] + 1)


def pattern(order) -> list[int]:
    """An order without the places that it leaves alone, the others numbered anew."""
    return np.unique(order[moved(order)], return_inverse=True)[1].tolist()


def nested(smaller, greater) -> bool:
    """Whether each example's flags [keys, n] are set in `greater` too; both vary, and differ."""
    assert 0 < smaller.sum() < greater.sum() < greater.size
    return not (smaller & ~greater).any()


@pytest.mark.parametrize("unit", ["token", "word"])
@pytest.mark.parametrize("distance", [2, None])
def test_a_share_that_takes_in_all_shuffles_as_all_do(distance, unit):
    """ceil(.999 x 20) = 20, by another way through the code."""
    orders = [
        column(
            noises.token_shuffling(SYMBOLS, shuffle_distance=distance, shuffle_prob=share, unit=unit),
            text_of(20),
        )
        for share in (1.0, 0.999)
    ]
    assert moved(orders[0]).any(1).all()
    np.testing.assert_array_equal(*orders)


@pytest.mark.parametrize("distance", [6, None])
def test_those_that_take_part_are_shuffled_as_a_text_of_as_many(distance):
    """10 of 20 change places in the order in which 10 tokens alone do."""
    options = {"shuffle_distance": distance}
    alone = column(noises.token_shuffling(SYMBOLS, **options), text_of(10))
    some = column(noises.token_shuffling(SYMBOLS, shuffle_prob=0.5, **options), text_of(20))
    assert len({str(pattern(order)) for order in alone}) > KEYS // 2
    for own, order in zip(alone, some, strict=True):
        assert pattern(own) == pattern(order)


def test_who_takes_part_in_a_shuffling_does_not_hang_on_the_distance():
    """Of 30 tokens the same 10 move, or some of them, whatever their distance; fewer are of them."""
    flags = [
        moved(column(noises.token_shuffling(SYMBOLS, shuffle_distance=d, shuffle_prob=p), text_of(30)))
        for d, p in ((None, 1 / 3), (2, 1 / 3), (9, 1 / 3), (None, 0.2))
    ]
    assert np.sum(flags[0], 1).mean() > 8
    assert (np.any(flags, 0).sum(1) <= 10).all()


def test_a_great_distance_shuffles_as_none():
    """The bound scales the same draws. A million places hold 20 tokens back in 1 of 250 orders, by 1 place:
    that 3 of 30 differ so is a chance of 1 in 4,000."""
    orders = [
        column(noises.token_shuffling(SYMBOLS, shuffle_distance=distance), text_of(20))
        for distance in (10**6, None)
    ]
    assert (orders[0] != orders[1]).any(1).sum() < 3


def test_a_share_that_takes_in_all_sentences_permutes_them_as_all():
    orders = [
        column(noises.sentence_permutation(SYMBOLS, permute_sentences=share), text_of(2, 3, 1, 4, 2, 5, 1, 2))
        for share in (1.0, 0.999)
    ]
    assert len({str(order) for order in orders[0]}) == KEYS
    np.testing.assert_array_equal(*orders)


def test_a_greater_share_of_the_sentences_takes_in_the_smaller():
    """Of 20 sentences 10 move at most, and 5 of these where a quarter is asked for."""
    half, quarter = (
        moved(column(noises.sentence_permutation(SYMBOLS, permute_sentences=share), text_of(*[1] * 20)))
        for share in (0.5, 0.25)
    )
    assert half.sum(1).mean() > 8 and quarter.sum(1).mean() > 3
    assert ((half | quarter).sum(1) <= 10).all()


@pytest.mark.parametrize("options", [{}, {"selection": "bernoulli"}, {"whole_word": True}])
def test_a_greater_deletion_takes_in_the_smaller(options):
    deleted = [
        column(noises.token_deletion(SYMBOLS, deletion_prob=share, **options), text_of(40), "target_noise")
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
def test_a_greater_share_hides_what_a_smaller_hides(build):
    hidden = [
        column(build(SYMBOLS, share), text_of(*[1, 2, 1] * 10), "target_noise") == TargetNoise.COVERED
        for share in (0.1, 0.3, 0.7)
    ]
    assert all(itertools.starmap(nested, itertools.pairwise(hidden)))


def test_where_tokens_are_replaced_does_not_hang_on_what_replaces_them():
    ids = [
        column(noises.token_replacement(SYMBOLS, source=s), text_of(40), "ids")
        for s in ("vocabulary", "text")
    ]
    assert (ids[0] != ids[1]).any()
    ops = [
        column(noises.token_replacement(SYMBOLS, source=s), text_of(40), "op") for s in ("vocabulary", "text")
    ]
    np.testing.assert_array_equal(*ops)


def test_places_of_insertions_do_not_hang_on_what_is_inserted():
    """A greater mask_random makes random what a smaller did, and leaves the random tokens as they were."""
    build = noises.token_insertion
    masks, some, more = (
        {
            name: column(build(SYMBOLS, insert_prob=0.5, mask_random=share), text_of(20), name)
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


def test_the_sign_of_a_rotation_leaves_its_pivot():
    plain = column(noises.document_rotation(SYMBOLS), text_of(30))
    with_sign = column(noises.document_rotation(SYMBOLS, sentinel=True), text_of(30))
    ops = column(noises.document_rotation(SYMBOLS, sentinel=True), text_of(30), "op")
    assert len(set(plain[:, 0].tolist())) > 10
    np.testing.assert_array_equal(plain, with_sign[ops == Op.KEEP].reshape(plain.shape))


def test_a_share_of_rotations_leaves_their_pivots():
    """Of more texts that are turned, those turned before keep their pivot."""
    every, more, some = (
        column(noises.document_rotation(SYMBOLS, rotate_prob=share), text_of(30)) for share in (1.0, 0.7, 0.3)
    )
    turned = [moved(order).any(1) for order in (some, more)]
    assert nested(*turned)
    for order, own in zip((some, more), turned, strict=True):
        np.testing.assert_array_equal(order[own], every[own])


TURNED = [{}, {"noise_density": 0.3}, {"mean_noise_span_length": 2.0}]
UNTURNED = {"noise_density": 0.4, "mean_noise_span_length": 3.0, "max_tokens": 64}


def turns(rolled, line) -> list[set[int]]:
    """For each key by how many places its hidden tokens on the line must turn to be those on the ring."""
    return [
        {turn for turn in range(len(own)) if np.array_equal(np.roll(before, turn), own)}
        for own, before in zip(rolled, line, strict=True)
    ]


def test_the_ring_hides_the_spans_of_the_line_turned():
    """40 tokens, some 14 hidden in 5 spans: by chance no turn of one set is another. The turn is the same
    whatever is hidden."""
    found = []
    for options in TURNED:
        ring, line = (
            column(
                noises.span_corruption(SYMBOLS, random_roll=roll, **(UNTURNED | options)),
                text_of(40),
                "target_noise",
            )
            == TargetNoise.COVERED
            for roll in (True, False)
        )
        assert len({str(example) for example in line}) == KEYS
        found.append(turns(ring, line))
    common = [set.intersection(*of_key) for of_key in zip(*found, strict=True)]
    assert all(len(turn) == 1 for turn in common)
    assert len(set.union(*common)) > 10


def test_what_hides_a_fragment_leaves_it_where_it_was():
    """Run, random tokens and which tokens become random stay as they are, whatever else is asked for."""

    def drawn(**options):
        options = {"random_prob": 0.0, "keep_prob": 0.0} | options
        names = ("output_source", "op", "ids")
        return {name: column(noises.masked_fragment(SYMBOLS, **options), text_of(40), name) for name in names}

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


def test_the_edge_of_a_fragment_leaves_the_starts_between():
    """Where a fragment touches neither end, it starts where it does if no end is preferred."""
    starts = [
        column(noises.masked_fragment(SYMBOLS, edge_prob=edge), text_of(40), "output_source")[:, 0]
        for edge in (0.0, 0.3)
    ]
    between = (starts[1] > 1) & (starts[1] < 21)
    assert 5 < between.sum() < KEYS
    np.testing.assert_array_equal(starts[0][between], starts[1][between])


def test_the_weights_of_a_mixture_leave_its_members_draws():
    """An example that has the same member under other weights has the same noise."""
    mask = noises.token_masking(SYMBOLS, random_prob=0.0, keep_prob=0.0)
    ids, ops = (
        [
            column(
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
