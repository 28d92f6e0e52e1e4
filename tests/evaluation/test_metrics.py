"""Sums of each metric against plain NumPy, and what is shown of a result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.evaluation import metrics
from denoise_jax.model.cross_entropy import cross_entropy
from denoise_jax.target_kinds import HIDDEN, VISIBLE, TargetKind

B, T, V = 3, 5, 11
KINDS = np.array([[1, 2, 2, 1, 5], [2, 2, 6, 0, 0], [4, 3, 0, 0, 0]], np.int32)


@pytest.fixture(scope="module")
def logits_BTV():
    return 3 * jax.random.normal(jax.random.key(0), (B, T, V))


@pytest.fixture(scope="module")
def targets_BT():
    return jax.random.randint(jax.random.key(1), (B, T), 1, V)


def _totals(chosen, logits_BTV, targets_BT, kinds, segments) -> list[dict]:
    batch = {
        "decoder_target_tokens": jnp.asarray(targets_BT),
        "decoder_target_kind": jnp.asarray(kinds, jnp.int32),
        "decoder_segment_ids": jnp.asarray(segments, jnp.int32),
    }
    scored = metrics.score(jnp.asarray(logits_BTV), batch)
    return [jax.device_get(metric.sums(scored)) for metric in chosen]


def _summary(chosen, totals) -> dict:
    result = {}
    for metric, total in zip(chosen, totals, strict=True):
        result |= metric.summary(total)
    return result


def test_token_metrics_equal_numpy(logits_BTV, targets_BT):
    result = _summary(
        metrics.TOKEN_METRICS,
        _totals(metrics.TOKEN_METRICS, logits_BTV, targets_BT, KINDS, KINDS > 0),
    )
    nll = np.asarray(cross_entropy(logits_BTV, targets_BT)[0])
    correct = np.asarray(logits_BTV.argmax(-1) == targets_BT)
    groups = {**{kind.name.lower(): (kind,) for kind in TargetKind}, "visible": VISIBLE, "hidden": HIDDEN}
    for name, kinds in groups.items():
        chosen = np.isin(KINDS, kinds)
        expected = {"loss": nll[chosen].mean(), "accuracy": correct[chosen].mean(), "tokens": chosen.sum()}
        assert (result | result["kinds"])[name] == pytest.approx(expected, rel=1e-5), name
    assert result["loss"] == pytest.approx(nll[KINDS > 0].mean(), rel=1e-5)
    assert result["perplexity"] == pytest.approx(np.exp(nll[KINDS > 0].mean()), rel=1e-5)
    counts = np.bincount(np.asarray(targets_BT)[np.isin(KINDS, HIDDEN)])
    assert result["baseline_accuracy"] == pytest.approx(counts.max() / counts.sum())


def test_packed_and_single_rows_give_the_same_sums(logits_BTV, targets_BT):
    real = KINDS > 0
    chosen = metrics.TOKEN_METRICS
    single = _totals(chosen, logits_BTV, targets_BT, KINDS, real)
    rows = [np.asarray(array)[real][None] for array in (logits_BTV, targets_BT, KINDS)]
    packed = _totals(chosen, *rows, np.repeat([1, 2, 3], real.sum(1))[None])
    assert float(single[-1]["spans"]) == 2
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5), single, packed)


def test_class_metrics_count_the_last_token_of_each_example(logits_BTV, targets_BT):
    kinds = np.zeros((B, T), np.int32)
    kinds[:, -1] = TargetKind.MASKED
    chosen = metrics.CLASS_METRICS
    result = _summary(chosen, _totals(chosen, logits_BTV, targets_BT, kinds, np.ones((B, T))))
    last = np.asarray(targets_BT)[:, -1]
    assert result == pytest.approx(
        {
            "loss": float(cross_entropy(logits_BTV, targets_BT)[0][:, -1].mean()),
            "accuracy": (np.asarray(logits_BTV)[:, -1].argmax(-1) == last).mean(),
            "baseline_accuracy": np.bincount(last).max() / B,
            "examples": B,
        },
        rel=1e-5,
    )
    assert metrics.describe(result).startswith("loss ")
    assert metrics.metrics_in(result) == metrics.CLASS_METRICS


def test_accuracy_of_no_token_is_not_shown(logits_BTV, targets_BT):
    """As in fine-tuning, where every target is hidden."""
    chosen = metrics.TOKEN_METRICS
    totals = _totals(chosen, logits_BTV, targets_BT, np.full((B, T), TargetKind.DELETED), np.ones((B, T)))
    result = _summary(chosen, totals)
    assert result["visible_accuracy"] == 0
    keys = {scalar.key for scalar in metrics.measured_scalars(result)}
    assert keys == {"loss", "perplexity", "hidden_loss", "hidden_accuracy", "baseline_accuracy"}
    assert [metric.note(result) for metric in chosen] == [None] * len(chosen), "there are no masked spans"
