"""Looks of tokens, and which tokens of the text a corrupted token corresponds to."""

import itertools
from collections import Counter

import pytest

from denoise_jax.corruption.presets import PRESETS
from denoise_jax.corruption.record import Op, TargetNoise
from denoise_jax.inspection import token_views
from denoise_jax.inspection.examples import NoisedExample, corrupt
from denoise_jax.target_kinds import TargetKind

K, M, I, R, S = map(int, (Op.KEEP, Op.MASK, Op.INSERT, Op.RANDOM, Op.SENTINEL))
V, C, D = map(int, (TargetNoise.VISIBLE, TargetNoise.COVERED, TargetNoise.DELETED))
TEXT = (
    "Fellow citizens, I come before you tonight. The union is strong! We shall build new roads. "
    "Let us go on together. Nothing stands in our way."
)


def example_of(columns, text, text_noise, targets=None):
    pieces, op, source, span = zip(*columns, strict=True)
    text = [f"▁{letter}" for letter in text]
    decoder = targets or [(piece, place) for place, piece in enumerate(text, 1)]
    return NoisedExample(
        inputs=list(pieces),
        inputs_op=list(op),
        inputs_source=list(source),
        inputs_span=list(span),
        text=text,
        text_noise=text_noise,
        targets=[piece for piece, _ in decoder],
        targets_source=[place for _, place in decoder],
        targets_kind=[1] * len(decoder),
    )


# a b c d e f g → <mask> d x f g <mask>, after e was deleted, and the last mask covers nothing
PLAIN = example_of(
    [
        ("<mask>", M, 1, 3),
        ("▁d", K, 4, 2),
        ("▁x", R, 3, 2),
        ("▁f", K, 6, 2),
        ("▁g", K, 7, 2),
        ("<mask>", I, 8, 1),
    ],
    "abcdefg",
    [C, C, C, V, D, V, V],
)
# Sentences ab, cd, ef in the order ef, ab, cd; one mask then hid f and a, and one b and c.
ACROSS = example_of(
    [("▁e", K, 5, 2), ("<mask>", M, 6, 3), ("<mask>", M, 2, 3), ("▁d", K, 4, 2)],
    "abcdef",
    [C, C, C, V, V, C],
)


def test_places_side_by_side():
    assert token_views.places_of_inputs(PLAIN) == [[1, 2], [4], [3], [6], [7], []]


def test_places_where_text_was_moved():
    assert token_views.places_of_inputs(ACROSS) == [[5], [6, 1], [2, 3], [4]]


def test_places_skip_what_was_deleted():
    example = example_of([("<mask>", M, 1, 3), ("▁d", K, 4, 2)], "abcd", [C, D, C, V])
    assert token_views.places_of_inputs(example) == [[1, 3], [4]]


@pytest.mark.parametrize("corruption", PRESETS)
def test_every_token_that_is_not_deleted_has_exactly_one_place(corruption):
    for seed in range(6):
        example = corrupt(TEXT, corruption, seed=seed)
        places = token_views.places_of_inputs(example)
        assert [len(own) + 1 for own in places] == example.inputs_span
        found = Counter(place for own in places for place in own)
        assert found == Counter(p for p, what in enumerate(example.text_noise, 1) if what != D)


def test_looks_and_accounts_follow_the_provenance():
    sides = token_views.sides(PLAIN)
    assert list(sides) == ["inputs", "text"]
    assert [token.look for token in sides["inputs"]] == [
        "mask",
        "kept",
        "replaced",
        "kept",
        "kept",
        "inserted",
    ]
    assert [token.look for token in sides["text"]] == [
        *("covered", "covered", "covered", "visible", "deleted", "visible", "visible"),
    ]
    assert [token.account for token in sides["inputs"]] == [
        "mask: tokens 1 to 2 of the text",
        "kept: token 4 of the text",
        "replaced: token 3 of the text",
        "kept: token 6 of the text",
        "kept: token 7 of the text",
        "inserted: before token 8 of the text",
    ]
    assert sides["inputs"][0].details == {"op": "MASK", "source": 1, "span": 3}


def test_moved_runs_begin_where_the_left_neighbour_is_another():
    columns = [(f"▁{letter}", K, "abcdef".index(letter) + 1, 2) for letter in "cdabef"]
    looks = [token.look for token in token_views.sides(example_of(columns, "abcdef", [V] * 6))["inputs"]]
    assert looks == ["moved", "kept", "moved", "kept", "moved", "kept"]


def test_counts_agree_with_colours_and_with_the_kinds_that_evaluation_counts():
    for corruption, seed in itertools.product(
        ("bart_paper", "xlm", "document_rotation", "handbook"), range(5)
    ):
        example = corrupt(TEXT, corruption, seed=seed)
        looks = [token.look for token in token_views.sides(example)["inputs"]]
        assert (
            token_views.counts(example).moved
            == looks.count("moved")
            == example.targets_kind.count(TargetKind.MOVED)
        )


def test_tokens_next_to_hidden_tokens_have_not_moved():
    assert "moved" not in {token.look for token in token_views.sides(PLAIN)["inputs"]}


def test_counts_leave_out_the_closing_token():
    assert token_views.counts(PLAIN) == (7, 6, 4, 1, 0)
    closed = example_of(
        [("▁b", K, 2, 2), ("▁a", K, 1, 2), ("</s>", K, 3, 2)],
        "ab",
        [V, V],
        [("▁a", 1), ("▁b", 2), ("</s>", 3)],
    )
    assert token_views.counts(closed) == (2, 2, 0, 0, 2)
    assert [token.look for token in token_views.sides(closed)["inputs"]] == ["moved", "moved", "kept"]
    assert list(token_views.sides(closed)) == ["inputs", "text"]


def test_targets_other_than_the_text_are_a_side_of_their_own():
    example = example_of(
        [("▁a", K, 1, 2), ("<extra_id_0>", S, 2, 3), ("</s>", K, 4, 2)],
        "abc",
        [V, C, C],
        [("<extra_id_0>", 2), ("▁b", 2), ("▁c", 3), ("</s>", 4)],
    )
    sides = token_views.sides(example)
    assert [token.look for token in sides["inputs"]] == ["kept", "sentinel", "kept"]
    assert [token.look for token in sides["targets"]] == ["sentinel", "covered", "covered", "kept"]
    assert [token.places for token in sides["targets"]] == [[2], [2], [3], [4]]
