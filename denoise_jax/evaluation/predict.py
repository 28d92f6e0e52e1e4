"""Predictions of a model for the inputs of a task (text, or classes), and the task's own metrics on them."""

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
import seqio
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from denoise_jax.config import ModelConfig
from denoise_jax.data import registry
from denoise_jax.data.loader import evaluation_batches
from denoise_jax.data.preprocessors import Reading
from denoise_jax.errors import DataError
from denoise_jax.evaluation.evaluated_run import check_limit, open_evaluated_run
from denoise_jax.files import write_atomically
from denoise_jax.generation.prompts import generate_ids
from denoise_jax.model.batch import MODEL_INPUTS
from denoise_jax.model.transformer import bind_params
from denoise_jax.parallel.mesh import padded_batch_size
from denoise_jax.parallel.processes import is_first
from denoise_jax.parallel.sharding import global_batch
from denoise_jax.runs.load_model import LoadedModel


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One example: its text, the prediction (a class id if there is a head) and the target.

    Prediction and target have been through the task's `postprocess_fn`.
    """

    inputs: str
    prediction: object
    target: object


def predict(
    run: str | Path | LoadedModel,
    *,
    split: str | None = None,
    step: int | None = None,
    task: str | None = None,
    task_modules: Sequence[str] | None = None,
    max_examples: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[list[Prediction], dict]:
    """Predictions for a split, in order, and the task's metrics on them.

    Text is generated with the run's `generation` settings. As in SeqIO, targets are `targets_pretokenized`,
    or else their decoded ids; the task's `postprocess_fn(text, example=..., is_target=...)` is applied to
    targets and predictions; then each metric function is called with the lists `targets` and `predictions`.

    In a run folder, predictions are also written to RUN/eval/<step>[-<task>][-<split>]-predictions.jsonl
    (with `-first-<max_examples>` if given), and the metrics of a complete split to the `.json` beside it.

    Args:
      run, split, step, task, task_modules: as for `evaluate`.
      max_examples: default: the complete split.
      progress: called with (examples done, examples in all) while text is generated.

    Returns:
      (predictions, result): the result holds `step`, `task`, `split`, `examples` (their number), and the
      metrics by name.

    Raises:
      CheckpointError, ConfigError, DataError: as for `open_evaluated_run`; a mixture, a task without metrics
        for predictions, or a split without examples.
      UserError: generation settings that do not fit the model.
    """
    check_limit("max_examples", max_examples)
    opened = open_evaluated_run(run, split=split, step=step, task=task, task_modules=task_modules)
    model = opened.model
    found = _task_with_metrics(model)
    examples = list(itertools.islice(_examples(model, found, opened.split), max_examples))
    if not examples:
        raise DataError(f"split {opened.split!r} of task {found.name!r} has no example to predict")
    if model.config.model.num_classes is None:
        raw = _generated_texts(model, examples, progress)
    else:
        raw = list(itertools.islice(_classes(model, opened.split), len(examples)))
    predictions = [
        Prediction(
            model.vocabulary.decode(example["inputs"]),
            found.postprocess_fn(output, example=example, is_target=False),
            found.postprocess_fn(_target(model, example), example=example, is_target=True),
        )
        for example, output in zip(examples, raw, strict=True)
    ]
    result = {"step": model.step, "task": found.name, "split": opened.split, "examples": len(predictions)}
    result |= _task_metrics(found, predictions)
    part = "" if max_examples is None else f"-first-{max_examples}"
    if is_first() and (file := opened.result_file(f"{part}-predictions.jsonl")):
        lines = [json.dumps(dataclasses.asdict(item), ensure_ascii=False) + "\n" for item in predictions]
        write_atomically(file, "".join(lines))
        if max_examples is None:
            write_atomically(file.with_suffix(".json"), json.dumps(result, indent=2) + "\n")
    return predictions, result


def _task_with_metrics(model: LoadedModel) -> seqio.Task:
    data = model.config.data
    task = registry.find_task(data.task, data.task_modules, model.vocabulary)
    if isinstance(task, seqio.Mixture):
        names = ", ".join(sorted(member.name for member in task.tasks))
        raise DataError(
            f"{task.name!r} is a mixture, but predictions are of a single task; give one of {names}"
        )
    if not task.predict_metric_fns:
        raise DataError(
            f"task {task.name!r} has no metric for predictions: register it with metric_fns=[...], functions "
            "of (targets, predictions) such as those in denoise_jax/data/string_metrics.py"
        )
    return task


def _examples(model: LoadedModel, task: seqio.Task, split: str) -> Iterator[dict[str, np.ndarray]]:
    """One pass over the split, without packing."""
    data = model.config.data
    (dataset,) = registry.open_shards(
        task,
        split,
        [0],
        lengths={"inputs": data.input_length, "targets": data.max_chunk_length},
        num_shards=1,
        seed=0,
        training=False,
        reading=Reading(packed=False, provenance=False),
    )
    return dataset.as_numpy_iterator()


def _batch_size(model: LoadedModel) -> int:
    return model.config.evaluation.batch_size or model.config.data.batch_size


def _generated_texts(
    model: LoadedModel, examples: Sequence[Mapping], progress: Callable[[int, int], object] | None
) -> list[str]:
    prompts = [example["inputs"].tolist() for example in examples]
    options, batch_size = model.config.generation, _batch_size(model)
    outputs = generate_ids(model, prompts, options, batch_size=batch_size, progress=progress)
    return [model.vocabulary.decode(best.ids) for best, *_ in outputs]


def _target(model: LoadedModel, example: Mapping[str, np.ndarray]) -> str | int:
    """The target before postprocessing."""
    if model.config.model.num_classes is not None:
        return int(example["targets"][0])
    text = example.get("targets_pretokenized")
    return model.vocabulary.decode(example["targets"]) if text is None else text.decode("utf-8")


def _classes(model: LoadedModel, split: str) -> Iterator[int]:
    """The most likely class of each example of the split, in order."""
    config, classes = model.config, model.config.model.num_classes
    step = _classification_step(config.model, model.mesh)
    batch_size = padded_batch_size(model.mesh, _batch_size(model))
    # Packed or not, rows and the segments in them are in the order of the examples.
    for batch in evaluation_batches(config.data, model.vocabulary, split, batch_size, num_classes=classes):
        inputs = global_batch({name: batch[name] for name in MODEL_INPUTS}, model.mesh)
        classes_BT = jax.device_get(step(model.params, inputs))
        yield from classes_BT[batch["decoder_target_kind"] > 0].tolist()


@functools.lru_cache(maxsize=8)
def _classification_step(config: ModelConfig, mesh: Mesh) -> Callable:
    """Jitted (params, inputs) → the most likely class at every position, int32 [B, T], replicated."""

    def step(params, inputs):
        return bind_params(config, params)(inputs).argmax(axis=-1)

    return jax.jit(step, out_shardings=NamedSharding(mesh, P()))


def _task_metrics(task: seqio.Task, predictions: Sequence[Prediction]) -> dict[str, float]:
    lists = {
        "targets": [prediction.target for prediction in predictions],
        "predictions": [prediction.prediction for prediction in predictions],
    }
    metrics: dict[str, float] = {}
    for metric in task.predict_metric_fns:
        # SeqIO's metric functions return plain numbers or objects with a `value`.
        metrics |= {name: float(getattr(value, "value", value)) for name, value in metric(**lists).items()}
    return metrics
