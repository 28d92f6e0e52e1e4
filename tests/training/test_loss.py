"""Losses against optax, and sums that leave padding out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from denoise_jax.config import OptimizerConfig
from denoise_jax.target_kinds import HIDDEN, VISIBLE, TargetKind
from denoise_jax.training import loss

B, T, V = 3, 5, 11


@pytest.fixture
def logits_BTV():
    return 3 * jax.random.normal(jax.random.key(0), (B, T, V))


@pytest.fixture
def targets_BT():
    return jax.random.randint(jax.random.key(1), (B, T), 1, V)


def test_equals_optax(logits_BTV, targets_BT):
    nll, objective = loss.token_losses(logits_BTV, targets_BT)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits_BTV, targets_BT)
    np.testing.assert_allclose(nll, expected, rtol=1e-5)
    np.testing.assert_array_equal(nll, objective)


def test_label_smoothing_spreads_over_real_columns_only(logits_BTV, targets_BT):
    real = 8
    targets_BT = targets_BT % real
    padded = jnp.where(jnp.arange(V)[None, None] < real, logits_BTV, -1e9)
    _, objective = loss.token_losses(padded, targets_BT, vocab_size=real, label_smoothing=0.2)
    smooth = optax.smooth_labels(jax.nn.one_hot(targets_BT, real), 0.2)
    np.testing.assert_allclose(
        objective, optax.softmax_cross_entropy(logits_BTV[..., :real], smooth), rtol=1e-5
    )


def test_z_loss(logits_BTV, targets_BT):
    nll, objective = loss.token_losses(logits_BTV, targets_BT, z_loss=0.1)
    log_z = jax.nn.logsumexp(logits_BTV, axis=-1)
    np.testing.assert_allclose(objective - nll, 0.1 * log_z**2, rtol=1e-4)


def test_sums_leave_padding_out_and_tell_kinds_apart(logits_BTV, targets_BT):
    kinds = np.array([[1, 2, 5, 0, 0], [2, 3, 6, 1, 4], [0, 0, 0, 0, 0]], np.int32)
    batch = {
        "decoder_target_tokens": targets_BT,
        "decoder_target_kind": jnp.array(kinds),
        "decoder_segment_ids": jnp.array(kinds > 0, jnp.int32),
    }
    nll = np.asarray(loss.token_losses(logits_BTV, targets_BT)[0])
    right = np.asarray(logits_BTV.argmax(-1) == targets_BT)
    hidden = np.isin(kinds, HIDDEN)
    total, sums = loss.training_sums(logits_BTV, batch, OptimizerConfig(), V)
    assert float(total) == pytest.approx(nll[kinds > 0].sum(), rel=1e-5)
    assert (float(sums["tokens"]), float(sums["hidden_tokens"])) == (8, 4)
    assert float(sums["hidden_loss"]) == pytest.approx(nll[hidden].sum(), rel=1e-5)

    measured = loss.evaluation_sums(logits_BTV, batch)
    for index, kind in enumerate(sorted(TargetKind)):
        assert float(measured["tokens_K"][index]) == (kinds == kind).sum()
        assert float(measured["right_K"][index]) == right[kinds == kind].sum()
        assert float(measured["loss_K"][index]) == pytest.approx(nll[kinds == kind].sum(), rel=1e-5)
    counts = np.bincount(np.asarray(targets_BT)[hidden], minlength=V)
    np.testing.assert_array_equal(measured["hidden_counts_V"], counts)


def _span_errors(guesses, targets, kinds, segments) -> list[int]:
    """Error of each counted span of one row, by the letter of the definition."""
    errors, place, length = [], 0, len(targets)
    while place < length:
        end = place
        while end < length and kinds[end] == TargetKind.MASKED and segments[end] == segments[place]:
            end += 1
        if end == place:
            place += 1
            continue
        if end < length and segments[end] == segments[place] and kinds[end] in VISIBLE:
            inside = [at for at in range(place, end) if targets[at] != targets[end]]
            ends = [at for at in [*inside, end] if guesses[at] == targets[end]]
            errors.append(ends[0] - end if ends else 1)
        place = end
    return errors


def test_span_lengths_equal_a_slow_reference_on_random_rows():
    random = np.random.default_rng(0)
    shape = (300, 40)
    kinds = random.choice(range(1, 7), shape, p=[0.25, 0.5, 0.1, 0.05, 0.05, 0.05]).astype(np.int32)
    segments = 1 + np.cumsum(random.random(shape) < 0.1, axis=1).astype(np.int32)
    lengths = random.integers(0, 41, (300, 1))
    segments[np.arange(40)[None] >= lengths] = 0
    kinds[segments == 0] = 0
    targets = random.integers(1, 5, shape).astype(
        np.int32
    )  # so few ids that spans often hold their closing token
    guesses = np.where(random.random(shape) < 0.5, targets, random.integers(1, 5, shape)).astype(np.int32)
    rows = zip(guesses, targets, kinds, segments, strict=True)
    errors = np.array([error for row in rows for error in _span_errors(*row)])
    assert len(errors) > 500
    sums = jax.jit(loss.span_length_sums)(guesses, targets, kinds, segments)
    assert {name: float(value) for name, value in sums.items()} == {
        "spans": len(errors),
        "spans_exact": np.sum(errors == 0),
        "spans_too_long": np.sum(errors > 0),
        "spans_too_short": np.sum(errors < 0),
        "span_error": errors.sum(),
        "span_absolute_error": np.abs(errors).sum(),
    }
    perfect = loss.span_length_sums(*map(jnp.array, (targets, targets, kinds, segments)))
    assert float(perfect["spans_exact"]) == float(perfect["spans"]) == len(errors)


@pytest.mark.parametrize(
    ("guesses", "error"),
    [
        ([1, 7, 8, 9, 5], 0),
        ([1, 2, 3, 9, 5], 0),  # wrong words, right number
        ([1, 7, 9, 9, 5], -1),
        ([1, 9, 8, 9, 5], -2),
        ([9, 7, 8, 9, 5], 0),  # before the span
        ([1, 7, 8, 4, 9], 1),  # behind it
    ],
)
def test_span_length_by_hand(guesses, error):
    """The text 1 7 8 9 5, of which 7 8 was masked: 9 closes the span."""
    M, S = TargetKind.MASKED, TargetKind.IN_PLACE
    columns = [guesses, [1, 7, 8, 9, 5], [S, M, M, S, S], [1] * 5]
    sums = loss.span_length_sums(*(jnp.array([column], jnp.int32) for column in columns))
    assert (float(sums["spans"]), float(sums["span_error"])) == (1, error)


def test_packed_rows_and_single_ones_give_the_same_sums(logits_BTV, targets_BT):
    kinds = np.array([[1, 2, 2, 1, 5], [2, 2, 6, 0, 0], [4, 2, 0, 0, 0]], np.int32)
    real = kinds > 0

    def batch(columns, segments):
        names = ("decoder_target_tokens", "decoder_target_kind", "decoder_segment_ids")
        return dict(zip(names, (jnp.array(c, jnp.int32) for c in (*columns, segments)), strict=True))

    single = loss.evaluation_sums(logits_BTV, batch((targets_BT, kinds), real))
    packed = [np.asarray(column)[real][None] for column in (targets_BT, kinds)]
    segments = np.repeat([1, 2, 3], real.sum(1))[None]
    together = loss.evaluation_sums(jnp.array(np.asarray(logits_BTV)[real][None]), batch(packed, segments))
    assert float(single["spans"]) == 2
    for name, value in single.items():
        np.testing.assert_allclose(value, together[name], rtol=1e-5, err_msg=name)
