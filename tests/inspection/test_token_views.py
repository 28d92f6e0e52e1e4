"""What a person is shown: looks, and which tokens of the text stand behind a corrupted one."""

import itertools
from collections import Counter

import pytest

from denoise_jax.corruption.presets import PRESETS
from denoise_jax.corruption.record import Op, TargetNoise
from denoise_jax.inspection import token_views
from denoise_jax.inspection.examples import Seen, TextNoise
from denoise_jax.target_kinds import TargetKind

K, M, I, R, S = map(int, (Op.KEEP, Op.MASK, Op.INSERT, Op.RANDOM, Op.SENTINEL))
V, H, D = map(int, (TargetNoise.VISIBLE, TargetNoise.COVERED, TargetNoise.DELETED))
TEXT = (
    "Fellow citizens, I come before you tonight. The union is strong! We shall build new roads. "
    "Let us go on together. Nothing stands in our way."
)


def _seen(columns, text, text_noise, targets=None):
    pieces, op, source, span = zip(*columns, strict=True)
    text = [f"▁{letter}" for letter in text]
    decoder = targets or [(piece, place) for place, piece in enumerate(text, 1)]
    return Seen(
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


# a b c d e f g → <mask> d x f g <mask>, after e was deleted, and the last mask stands for nothing
PLAIN = _seen(
    [
        ("<mask>", M, 1, 3),
        ("▁d", K, 4, 2),
        ("▁x", R, 3, 2),
        ("▁f", K, 6, 2),
        ("▁g", K, 7, 2),
        ("<mask>", I, 8, 1),
    ],
    "abcdefg",
    [H, H, H, V, D, V, V],
)
# Sentences ab, cd, ef in the order ef, ab, cd; one mask then hid f and a, and one b and c.
ACROSS = _seen(
    [("▁e", K, 5, 2), ("<mask>", M, 6, 3), ("<mask>", M, 2, 3), ("▁d", K, 4, 2)],
    "abcdef",
    [H, H, H, V, V, H],
)


def test_places_side_by_side():
    assert token_views.places_of_inputs(PLAIN) == [[1, 2], [4], [3], [6], [7], []]


def test_places_where_text_was_moved():
    assert token_views.places_of_inputs(ACROSS) == [[5], [6, 1], [2, 3], [4]]


def test_places_skip_what_was_deleted():
    seen = _seen([("<mask>", M, 1, 3), ("▁d", K, 4, 2)], "abcd", [H, D, H, V])
    assert token_views.places_of_inputs(seen) == [[1, 3], [4]]


@pytest.mark.parametrize("corruption", PRESETS)
def test_every_token_that_is_not_deleted_stands_behind_exactly_one(corruption):
    noise = TextNoise(TEXT)
    for seed in range(6):
        seen = noise.under(corruption, seed)
        places = token_views.places_of_inputs(seen)
        assert [len(own) + 1 for own in places] == seen.inputs_span
        behind = Counter(place for own in places for place in own)
        assert behind == Counter(p for p, what in enumerate(seen.text_noise, 1) if what != D)


def test_looks():
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
        *("hidden", "hidden", "hidden", "seen", "deleted", "seen", "seen"),
    ]
    assert [token.account for token in sides["inputs"]] == [
        "mask: tokens 1 to 2 of the text",
        "kept: token 4 of the text",
        "replaced: token 3 of the text",
        "kept: token 6 of the text",
        "kept: token 7 of the text",
        "inserted, for nothing: stands before token 8 of the text",
    ]
    assert sides["inputs"][0].details == {"op": "MASK", "source": 1, "span": 3}


def test_moved_runs_begin_where_the_left_neighbour_is_another():
    columns = [(f"▁{letter}", K, "abcdef".index(letter) + 1, 2) for letter in "cdabef"]
    looks = [token.look for token in token_views.sides(_seen(columns, "abcdef", [V] * 6))["inputs"]]
    assert looks == ["moved", "kept", "moved", "kept", "moved", "kept"]


def test_what_is_counted_is_what_is_coloured_and_what_the_evaluator_counts():
    noise = TextNoise(TEXT)
    for corruption, seed in itertools.product(
        ("bart_paper", "xlm", "document_rotation", "handbook"), range(5)
    ):
        seen = noise.under(corruption, seed)
        looks = [token.look for token in token_views.sides(seen)["inputs"]]
        assert (
            token_views.counts(seen).moved
            == looks.count("moved")
            == seen.targets_kind.count(TargetKind.MOVED)
        )


def test_nothing_has_moved_beside_deleted_and_hidden_tokens():
    assert "moved" not in {token.look for token in token_views.sides(PLAIN)["inputs"]}


def test_counts_leave_out_the_closing_token():
    assert token_views.counts(PLAIN) == (7, 6, 3, 1, 0)
    closed = _seen(
        [("▁b", K, 2, 2), ("▁a", K, 1, 2), ("</s>", K, 3, 2)],
        "ab",
        [V, V],
        [("▁a", 1), ("▁b", 2), ("</s>", 3)],
    )
    assert token_views.counts(closed) == (2, 2, 0, 0, 2)
    assert [token.look for token in token_views.sides(closed)["inputs"]] == ["moved", "moved", "kept"]
    assert list(token_views.sides(closed)) == ["inputs", "text"]


def test_targets_where_the_decoder_writes_something_else():
    seen = _seen(
        [("▁a", K, 1, 2), ("<extra_id_0>", S, 2, 3), ("</s>", K, 4, 2)],
        "abc",
        [V, H, H],
        [("<extra_id_0>", 2), ("▁b", 2), ("▁c", 3), ("</s>", 4)],
    )
    sides = token_views.sides(seen)
    assert [token.look for token in sides["inputs"]] == ["kept", "sentinel", "kept"]
    assert [token.look for token in sides["targets"]] == ["sentinel", "hidden", "hidden", "kept"]
    assert [token.places for token in sides["targets"]] == [[2], [2], [3], [4]]
