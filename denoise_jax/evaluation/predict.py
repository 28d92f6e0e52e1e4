"""What a model writes for the inputs of a task, or the classes it tells, and the task's metrics on that."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
import seqio

from denoise_jax.data import registry
from denoise_jax.data.loader import evaluation_batches
from denoise_jax.data.preprocessors import Reading
from denoise_jax.errors import DataError
from denoise_jax.generation.prompts import generate_ids
from denoise_jax.model.transformer import bind_params
from denoise_jax.parallel.mesh import batch_shards
from denoise_jax.parallel.sharding import global_batch
from denoise_jax.runs.load_model import LoadedModel
from denoise_jax.training.step import MODEL_INPUTS


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One example: its text, what was written (a class id under a head), and what should have been.

    The last two have been through the task's `postprocess_fn`.
    """

    inputs: str
    prediction: object
    target: object


def predict(
    model: LoadedModel,
    split: str,
    *,
    max_examples: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[list[Prediction], dict[str, float]]:
    """Predictions for a split in order, and the metrics of the task on them.

    The task is that of the model's configuration; text is decoded as its `generation` says. Follows SeqIO:
    targets are `targets_pretokenized`, else what the vocabulary makes of their ids; a task's
    `postprocess_fn(text, example=..., is_target=...)` is put on targets and predictions; then each metric
    function takes the lists `targets` and `predictions`.

    Args:
      progress: told, while text is decoded, how many examples are done, and of how many.

    Raises:
      DataError: a mixture, a task without such metrics, or a split without examples.
    """
    config = model.config
    task = registry.find_task(config.data.task, config.data.task_modules, model.vocabulary)
    if isinstance(task, seqio.Mixture):
        names = ", ".join(sorted(member.name for member in task.tasks))
        raise DataError(f"predictions are of one task, and {task.name!r} is a mixture; give one of {names}")
    if not task.predict_metric_fns:
        raise DataError(
            f"task {task.name!r} has no metric for predictions: give its registration metric_fns=[...], "
            "functions of (targets, predictions) such as those in denoise_jax/data/string_metrics.py"
        )
    examples = list(itertools.islice(_examples(model, task, split), max_examples))
    if not examples:
        raise DataError(f"split {split!r} of task {task.name!r} has no example to predict")
    batch_size = config.evaluation.batch_size or config.data.batch_size
    if config.model.num_classes is None:
        prompts = [example["inputs"].tolist() for example in examples]
        outputs = generate_ids(model, prompts, config.generation, batch_size=batch_size, progress=progress)
        written = [model.vocabulary.decode(best.ids) for best, *_ in outputs]
    else:
        written = list(itertools.islice(_classes(model, split, batch_size), len(examples)))
    predictions = [
        Prediction(
            model.vocabulary.decode(example["inputs"]),
            task.postprocess_fn(text, example=example, is_target=False),
            task.postprocess_fn(_target(model, example), example=example, is_target=True),
        )
        for example, text in zip(examples, written, strict=True)
    ]
    told = {"targets": [p.target for p in predictions], "predictions": [p.prediction for p in predictions]}
    metrics: dict[str, float] = {}
    for metric in task.predict_metric_fns:
        metrics |= {name: float(getattr(value, "value", value)) for name, value in metric(**told).items()}
    return predictions, metrics


def _examples(model: LoadedModel, task: seqio.Task, split: str) -> Iterator[dict[str, np.ndarray]]:
    """One pass over the split, as rows without packing would have it."""
    data = model.config.data
    dataset = registry.open_shard(
        task,
        split,
        lengths={"inputs": data.input_length, "targets": data.max_chunk_length},
        num_shards=1,
        seed=0,
        training=False,
        reading=Reading(packed=False, provenance=False),
    )
    return dataset.as_numpy_iterator()


def _target(model: LoadedModel, example: Mapping[str, np.ndarray]) -> str | int:
    """What should be written, before any postprocessing."""
    if model.config.model.num_classes is not None:
        return int(example["targets"][0])
    text = example.get("targets_pretokenized")
    return model.vocabulary.decode(example["targets"]) if text is None else text.decode("utf-8")


def _classes(model: LoadedModel, split: str, batch_size: int) -> Iterator[int]:
    """The likeliest class of each example of the split, in order."""
    config, shards = model.config, batch_shards(model.mesh)
    classes = config.model.num_classes
    rows = -(-batch_size // shards) * shards

    @jax.jit
    def guess(params, batch):
        return bind_params(config.model, params)(batch).argmax(axis=-1)

    # Packed or not, rows and the segments in them are in the order of the examples.
    for batch in evaluation_batches(config.data, model.vocabulary, split, rows, num_classes=classes):
        inputs = global_batch({name: batch[name] for name in MODEL_INPUTS}, model.mesh)
        guesses_BT = jax.device_get(guess(model.params, inputs))
        yield from guesses_BT[batch["decoder_target_kind"] > 0].tolist()
