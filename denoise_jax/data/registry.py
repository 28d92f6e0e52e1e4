"""Finds registered tasks and mixtures, and opens one logical shard of a split."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import seqio
import tensorflow as tf

from denoise_jax import user_packages
from denoise_jax.data.chunking import tokenize_sentences
from denoise_jax.data.preprocessors import PROVENANCE, Noise, Reading
from denoise_jax.errors import DataError, nearest
from denoise_jax.vocabulary.base import Vocabulary
from denoise_jax.vocabulary.seqio import SeqioVocabulary, is_ours

TaskOrMixture = seqio.Task | seqio.Mixture

_EPOCHS = 1000
_LEAST_BUFFER = 100  # examples


def find_task(name: str, modules: Sequence[str], vocabulary: Vocabulary | None = None) -> TaskOrMixture:
    """The task or mixture registered as `name`, after importing `modules`.

    Args:
      vocabulary: replaces the task's own; see `with_vocabulary`.

    Raises:
      DataError: a module cannot be imported, or nothing is registered as `name` (similar names are listed).
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


def with_vocabulary(found: TaskOrMixture, vocabulary: Vocabulary) -> TaskOrMixture:
    """The task or mixture with another vocabulary, such as that of a run or checkpoint.

    It replaces SentencePiece models and tokenizers; class labels are kept.

    Raises:
      DataError: inputs or targets are ids of another kind of vocabulary, which would mean other tokens.
    """
    replacement = SeqioVocabulary(vocabulary)

    def replace(task: seqio.Task) -> seqio.Task:
        _check_vocabularies(task, vocabulary)
        features = {
            name: dataclasses.replace(feature, vocabulary=replacement)
            if is_ours(feature.vocabulary)
            else feature
            for name, feature in task.output_features.items()
        }
        return task.replace(output_features=features)

    return _map_tasks(found, replace)


def _check_vocabularies(task: seqio.Task, vocabulary: Vocabulary) -> None:
    for name in ("inputs", "targets"):
        found = task.output_features[name].vocabulary if name in task.output_features else None
        if found is not None and not is_ours(found) and not isinstance(found, seqio.PassThroughVocabulary):
            raise DataError(
                f"task {task.name!r}: its feature {name!r} has ids of a {type(found).__name__}, but the "
                f"run has vocabulary {vocabulary.name}; register it with preprocessors.output_features(...)"
            )


def bind_reading(found: TaskOrMixture, reading: Reading) -> TaskOrMixture:
    """The task or mixture with `reading` bound to its noise.

    Each task of a mixture gets its share of `reading.per_step`, as given by the mixing rates.
    """
    share_of = shares(found) if isinstance(found, seqio.Mixture) else {}

    def bind(task: seqio.Task) -> seqio.Task:
        own = reading
        if reading.per_step is not None:
            own = dataclasses.replace(reading, per_step=reading.per_step * share_of.get(task.name, 1.0))
        preprocessors = [p.bind(own) if isinstance(p, Noise) else p for p in task.preprocessors]
        return task.replace(preprocessors=preprocessors)

    return _map_tasks(found, bind)


def texts(task: TaskOrMixture, split: str) -> Iterator[str]:
    """Documents of a split in order, after the preprocessors that precede tokenization.

    Raises:
      DataError: the examples have no feature `text`.
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


def check_splits(task: TaskOrMixture, splits: Sequence[str]) -> None:
    """DataError unless `task` has data for each of `splits`."""
    for split in splits:
        _members(task, split)


def open_shards(
    task: TaskOrMixture,
    split: str,
    shards: Sequence[int],
    *,
    lengths: dict[str, int],
    num_shards: int,
    seed: int,
    training: bool,
    reading: Reading,
    finish: Callable[[tf.data.Dataset], tf.data.Dataset] = lambda examples: examples,
) -> list[tf.data.Dataset]:
    """Examples of some of `num_shards` logical shards, a dataset for each of `shards`.

    Training shuffles and repeats without end; otherwise a shard is read once, in order. All shards use the
    same seed for the order, since SeqIO deals out examples in turn if there are fewer files than shards. The
    noise is keyed by shard, so the same text at the same position gets different noise in each.

    Everything after the source is traced once, as a function of the source's dataset and of the shard: with
    many shards, tracing would take most of the start.

    Args:
      reading: of all shards; `shard` and `num_shards` are filled in.
      finish: further steps, such as packing, which are traced as well.

    Raises:
      DataError: the split has no data, a mixture has tasks with different features, or the noise of a task is
        wrapped in another function.
    """
    members = _members(task, split)

    def examples(documents: dict[str, tf.data.Dataset], shard: tf.Tensor) -> tf.data.Dataset:
        bound = bind_reading(task, dataclasses.replace(reading, shard=shard, num_shards=num_shards))

        def prepared(member: seqio.Task) -> seqio.Task:
            if member.name not in documents:
                return member
            member = member.replace(source=_OpenedSource(documents[member.name], split))
            return _with_part_of_buffer(_with_many_epochs(member), num_shards) if training else member

        return finish(_preprocessed(_map_tasks(bound, prepared), split, lengths, seed, training, reading))

    opened, traced = [], None
    for shard in shards:
        info = seqio.ShardInfo(shard, num_shards) if num_shards > 1 else None
        documents = {m.name: _open_source(m.source, split, info, seed, shuffle=training) for m in members}
        arguments = documents, tf.constant(shard)
        traced = traced or tf.function(examples, autograph=False).get_concrete_function(*arguments)
        opened.append(traced(*arguments))
    return opened


def _open_source(
    source: seqio.DataSource, split: str, shard: seqio.ShardInfo | None, seed: int, *, shuffle: bool
) -> tf.data.Dataset:
    """A shard of the files, or of the documents if there are fewer files than shards, as in SeqIO."""
    options = {"split": split, "shuffle": shuffle, "seed": seed}
    by_file = source.supports_arbitrary_sharding
    if shard is None or by_file or len(source.list_shards(split)) >= shard.num_shards:
        return source.get_dataset(**options, shard_info=shard)
    return source.get_dataset(**options).shard(shard.num_shards, shard.index)


def _preprocessed(
    task: TaskOrMixture, split: str, lengths: dict[str, int], seed: int, training: bool, reading: Reading
) -> tf.data.Dataset:
    options = {
        "sequence_length": lengths,
        "split": split,
        "shuffle": training,
        "seed": seed,
        "num_epochs": None if training else 1,
        "try_in_mem_cache": False,
    }
    if isinstance(task, seqio.Mixture):
        options["passthrough_features"] = (*PROVENANCE, "decoder_start", "text", "text_noise")
    try:
        dataset = task.get_dataset(**options)
    except TypeError as error:
        if "compatible element specs" not in str(error):
            raise
        raise DataError(
            f"the tasks of mixture {task.name!r} cannot be mixed, since they give different features; "
            "tasks with a language only mix with such tasks, and denoising tasks with denoising tasks"
        ) from None
    if not reading.provenance and "inputs_op" in dataset.element_spec:
        raise DataError(
            f"task {task.name!r}: its noise cannot be bound to the data shard; "
            "put preprocessors.corrupt(...) itself into the list of preprocessors, not in another function"
        )
    return dataset


class _OpenedSource(seqio.DataSource):
    """A dataset that is already open, as the source of a task."""

    def __init__(self, documents: tf.data.Dataset, split: str):
        super().__init__(splits=[split])
        self._documents = documents

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return False

    def list_shards(self, split: str) -> list[str]:
        return [split]

    def get_dataset(self, split=None, shuffle=True, seed=None, shard_info=None) -> tf.data.Dataset:
        return self._documents


def _with_part_of_buffer(task: seqio.Task, num_shards: int) -> seqio.Task:
    """`task`, whose shuffle buffer is for one of `num_shards` shards; it is filled before the first batch.

    A task's buffer is that of the whole run, since every batch takes from all shards; but a shard mixes at
    least `_LEAST_BUFFER` examples of its own, so that a document's do not follow each other.
    """
    size = task.shuffle_buffer_size
    if size is None:
        return task
    return task.replace(shuffle_buffer_size=max(size // num_shards, min(size, _LEAST_BUFFER)))


def _with_many_epochs(task: seqio.Task) -> seqio.Task:
    """`task`, whose first preprocessor gets many epochs of documents in a row.

    SeqIO repeats after tokenization. A position saved while an epoch is read to its end, but not yet used to
    its end, would then lose the state of the shuffling of files: the epochs after a restore would have
    another order. Not without end, so that a corpus whose texts are all dropped is still noticed. Another
    preprocessor in the list would change the seeds that SeqIO gives to those after it.
    """
    kept = [p for p in task.preprocessors if not isinstance(p, seqio.CacheDatasetPlaceholder)]
    if not kept:
        return task
    first = kept[0]

    @functools.wraps(first)
    def repeated(documents, *arguments, **options):
        return first(documents.repeat(_EPOCHS), *arguments, **options)

    return task.replace(preprocessors=[repeated if p is first else p for p in task.preprocessors])


def shares(mixture: seqio.Mixture) -> dict[str, float]:
    """Share of each task in the examples of a mixture, by task name; DataError if the rates give none."""
    rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
    if not all(0 <= rate < math.inf for rate in rates.values()) or not any(rates.values()):
        raise DataError(
            f"the rates of mixture {mixture.name!r} are {rates}; they must be 0 or more, and one above 0"
        )
    return {name: rate / sum(rates.values()) for name, rate in rates.items()}


def _map_tasks(found: TaskOrMixture, change: Callable[[seqio.Task], seqio.Task]) -> TaskOrMixture:
    """`change` applied to a task, or to each task of a mixture."""
    if isinstance(found, seqio.Task):
        return change(found)
    return seqio.Mixture(found.name, [(change(task), found.get_rate(task)) for task in found.tasks])


def _tokenizes(preprocessor) -> bool:
    return getattr(preprocessor, "func", preprocessor) is tokenize_sentences


def _members(task: TaskOrMixture, split: str) -> list[seqio.Task]:
    members = [t for t in getattr(task, "tasks", [task]) if split in t.splits]
    if not members:
        raise DataError(f"task {task.name!r} has no split {split!r}; it has {', '.join(sorted(task.splits))}")
    for member in members:
        if not member.source.list_shards(split):
            raise DataError(
                f"the corpus of task {member.name!r}, split {split!r}, is empty: its source finds no files; "
                "check the paths that the task gives it"
            )
    return members
