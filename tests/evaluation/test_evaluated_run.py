"""Which task and split a model is measured on, what is refused, and how result files are named."""

import dataclasses

import pytest

from denoise_jax.errors import ConfigError, DataError, UserError
from denoise_jax.evaluation.evaluated_run import open_evaluated_run
from denoise_jax.runs.load_model import load_model

DEFAULTS = {"split": None, "step": None, "task": None, "task_modules": None}


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        ({}, "6"),
        ({"step": 3}, "3"),
        ({"split": "validation"}, "6-validation"),
        ({"split": "test"}, "6"),
        ({"task": "quickstart", "split": "train"}, "6-quickstart-train"),
    ],
)
def test_result_files_are_named_by_what_differs_from_the_run(finished_run, chosen, name):
    opened = open_evaluated_run(finished_run, **DEFAULTS | chosen)
    assert opened.result_file(".json") == finished_run / "eval" / f"{name}.json"
    assert opened.split == chosen.get("split", "test")


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"split": "dev"}, "has no split 'dev'"),
        ({"task": "quickstrat"}, "did you mean quickstart"),
        ({"task": "quickstart_century_classes"}, "ids of 4 classes, but model.num_classes=None"),
    ],
)
def test_what_does_not_fit_is_refused(finished_run, chosen, message):
    with pytest.raises(DataError, match=message):
        open_evaluated_run(finished_run, **DEFAULTS | chosen)


def test_a_loaded_model_is_taken_as_it_is(finished_run):
    model = load_model(finished_run, 3)
    assert open_evaluated_run(model, **DEFAULTS).model.params is model.params
    with pytest.raises(UserError, match="step=6 is not the step 3"):
        open_evaluated_run(model, **DEFAULTS | {"step": 6})


def test_imported_weights_need_a_task(finished_run):
    model = load_model(finished_run)
    imported = dataclasses.replace(model, config=model.config.replace(data={"task": None}))
    with pytest.raises(ConfigError, match="give --task NAME"):
        open_evaluated_run(imported, **DEFAULTS)
    assert open_evaluated_run(imported, **DEFAULTS | {"task": "quickstart"}).split == "test"
