"""Predictions are written with their metrics; tasks without any are refused."""

import json
import shutil

import pytest

from denoise_jax.errors import DataError
from denoise_jax.evaluation.predict import predict


def test_predictions_and_metrics_of_a_task(finished_run, tmp_path):
    run, seen = shutil.copytree(finished_run, tmp_path / "run"), []
    predictions, result = predict(
        run, task="quickstart_century", max_examples=5, progress=lambda *counts: seen.append(counts)
    )
    assert set(result) == {"step", "task", "split", "examples", "accuracy", "baseline_accuracy"}
    assert (result["step"], result["task"], result["examples"]) == (6, "quickstart_century", 5)
    assert seen[-1] == (5, 5)
    file = run / "eval" / "6-quickstart_century-first-5-predictions.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["target"] for line in lines] == [item.target for item in predictions]
    assert not file.with_suffix(".json").exists(), "metrics of a part are not written"


def test_a_task_without_metrics_is_refused(finished_run):
    with pytest.raises(DataError, match="'tiny' has no metric for predictions"):
        predict(finished_run)
