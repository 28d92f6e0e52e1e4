"""Batches for training and evaluation, from logical data shards whose positions can be saved and restored.

The data of a run is divided into a fixed number of logical shards. Each host reads some of them and
assembles its part of a batch in shard order, so neither the order of the data nor the noise depends on the
number of hosts.
"""

import concurrent.futures
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np
import seqio
import tensorflow as tf

from denoise_jax.config import DataConfig
from denoise_jax.data import registry
from denoise_jax.data.packing import DenoisingFeatureConverter
from denoise_jax.data.preprocessors import Reading
from denoise_jax.errors import ConfigError, DataError
from denoise_jax.parallel import processes
from denoise_jax.vocabulary.base import Vocabulary

Batch = dict[str, np.ndarray]

# Not worth another try, unlike a server that does not answer.
_UNREADABLE = (tf.errors.InvalidArgumentError, tf.errors.DataLossError)

_REFUSE_EXTERNAL_STATE = 2  # TensorFlow's ExternalStatePolicy.FAIL

# TensorFlow only reads data: it must not allocate memory of the accelerators.
for _kind in ("GPU", "TPU"):
    tf.config.set_visible_devices([], _kind)

# Optimising the graphs of a pipeline, again for each shard, takes a second and makes batches no faster.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


class TrainLoader:
    """Endless iterator over this host's part of the training batches.

    A batch is a dict of int32 arrays [batch_size / hosts, length]; see `DenoisingFeatureConverter`. The first
    raises DataError if the position in the data cannot be saved.
    """

    def __init__(
        self,
        config: DataConfig,
        vocabulary: Vocabulary,
        split: str = "train",
        *,
        num_classes: int | None = None,
    ):
        self._task, self._num_shards = config.task, config.shards
        self._can_be_saved = False
        self._first: Batch | None = None
        self._shards = shards_of_this_host(config.shards)
        task = registry.find_task(config.task, config.task_modules, vocabulary)
        size = config.batch_size // config.shards
        parts = _parts_of_batches(
            task, split, config, vocabulary, num_classes, self._shards, config.shards, size, training=True
        )
        self._iterators = [iter(part) for part in parts]

    def __iter__(self) -> Iterator[Batch]:
        return self

    def read_first(self) -> None:
        """Reads the batch that `next` will return: unusable data are found now. Raises as `next` does.

        Until that batch is taken, `state` must not be called: it would be the position after it.
        """
        self._first = next(self)

    def __next__(self) -> Batch:
        if self._first is not None:
            batch, self._first = self._first, None
            return batch
        try:
            parts = self._next_parts()
        except _UNREADABLE as error:
            raise _unreadable(self._task, error) from None
        if all(part is None for part in parts):
            raise DataError(f"task {self._task!r} has no text to train on")
        if None in parts:
            raise DataError(
                f"task {self._task!r} has no text for data shard {self._shards[parts.index(None)]} of "
                f"{self._num_shards}: it has fewer texts than shards; set data.shards lower"
            )
        if not self._can_be_saved:
            self.state()  # fails now rather than at the first checkpoint
            self._can_be_saved = True
        return {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}

    def _next_parts(self) -> list[dict[str, tf.Tensor] | None]:
        """Each shard's part of the next batch; of the first, which takes seconds, in parallel."""
        if self._can_be_saved:
            return [next(iterator, None) for iterator in self._iterators]
        with concurrent.futures.ThreadPoolExecutor() as threads:
            return list(threads.map(lambda iterator: next(iterator, None), self._iterators))

    def state(self) -> dict[str, bytes]:
        """Positions of this host's shards, file name → content, for the same TensorFlow version."""
        return {name: content() for name, content in self.snapshot().items()}

    def snapshot(self) -> dict[str, Callable[[], bytes]]:
        """As `state`, with functions that make the contents later, in any thread."""
        found = zip(self._shards, self._iterators, strict=True)
        return {self._name(shard): self._position(iterator) for shard, iterator in found}

    def restore(self, files: Mapping[str, bytes]) -> None:
        """Resumes at the positions in `files`; DataError if a shard's is missing or cannot be read."""
        for shard, iterator in zip(self._shards, self._iterators, strict=True):
            name = self._name(shard)
            if name not in files:
                raise DataError(
                    f"the checkpoint has no position for data shard {shard} of {self._num_shards}"
                )
            try:
                position = tf.io.parse_tensor(files[name], tf.variant)
                tf.raw_ops.DeserializeIterator(
                    resource_handle=iterator._iterator_resource, serialized=position
                )
            except tf.errors.OpError as error:
                raise DataError(
                    f"the position of data shard {shard} cannot be restored with TensorFlow "
                    f"{tf.__version__}: {str(error).splitlines()[0]}"
                ) from None

    def _position(self, iterator: tf.data.Iterator) -> Callable[[], bytes]:
        # The operations below tf.train.Checkpoint, which would write files at once.
        try:
            position = tf.raw_ops.SerializeIterator(
                resource_handle=iterator._iterator_resource, external_state_policy=_REFUSE_EXTERNAL_STATE
            )
        except tf.errors.FailedPreconditionError as error:
            raise DataError(
                f"the position in task {self._task!r} cannot be saved, so the run could not be resumed: its "
                f"source or a preprocessor calls back into Python or draws stateful noise ({error.message})"
            ) from None
        return lambda: tf.io.serialize_tensor(position).numpy()

    def _name(self, shard: int) -> str:
        return f"shard_{shard:05d}-of-{self._num_shards:05d}"


def evaluation_batches(
    config: DataConfig,
    vocabulary: Vocabulary,
    split: str,
    batch_size: int,
    max_batches: int | None = None,
    *,
    num_classes: int | None = None,
    num_shards: int = 1,
) -> Iterator[Batch]:
    """This host's part of the batches of one pass over `split`, with the same noise in every pass.

    The split is divided into `num_shards` logical shards, a divisor of `batch_size`; each fills its part of
    every batch, with empty rows when it has ended. Hosts share the shards; if they cannot be shared evenly,
    every host reads all of them and yields its part of the rows. All hosts yield the same number of batches.
    """
    task = registry.find_task(config.task, config.task_modules, vocabulary)
    hosts = jax.process_count()
    if batch_size % hosts:
        raise ConfigError(f"evaluation batch size {batch_size} is not a multiple of the {hosts} hosts")
    shared = num_shards % hosts == 0
    shards = shards_of_this_host(num_shards) if shared else range(num_shards)
    size = batch_size // num_shards
    datasets = _parts_of_batches(
        task, split, config, vocabulary, num_classes, shards, num_shards, size, training=False
    )
    iterators = [dataset.as_numpy_iterator() for dataset in datasets]
    mine = slice(None) if shared else slice(*(np.array([0, 1]) + jax.process_index()) * (batch_size // hosts))
    spec = datasets[0].element_spec
    try:
        for _ in itertools.count() if max_batches is None else range(max_batches):
            parts = [next(iterator, None) for iterator in iterators]
            if not processes.any_of(any(part is not None for part in parts)):
                return
            padded = [{name: _padded(part, name, size, spec) for name in spec} for part in parts]
            yield {name: np.concatenate([part[name] for part in padded])[mine] for name in spec}
    except _UNREADABLE as error:
        raise _unreadable(config.task, error) from None


def _padded(part: Batch | None, name: str, size: int, spec: Mapping[str, tf.TensorSpec]) -> np.ndarray:
    """A feature of `size` rows, of which those after the last of `part` are empty."""
    if part is None:
        return np.zeros((size, *spec[name].shape[1:]), spec[name].dtype.as_numpy_dtype)
    return np.pad(part[name], ((0, size - len(part[name])), (0, 0)))


def _parts_of_batches(
    task: seqio.Task | seqio.Mixture,
    split: str,
    config: DataConfig,
    vocabulary: Vocabulary,
    num_classes: int | None,
    shards: Sequence[int],
    num_shards: int,
    size: int,
    *,
    training: bool,
) -> list[tf.data.Dataset]:
    """For each of `shards`, its part of every batch: `size` rows."""
    per_step = config.batch_size
    if config.pack:
        per_step = config.tokens_per_step or config.batch_size * config.target_length
    converter = DenoisingFeatureConverter(
        pack=config.pack, bos_id=vocabulary.start_id, num_classes=num_classes
    )

    def parts(examples: tf.data.Dataset) -> tf.data.Dataset:
        rows = converter(examples, {"inputs": config.input_length, "targets": config.target_length})
        return rows.batch(size, drop_remainder=training).prefetch(2)

    return registry.open_shards(
        task,
        split,
        shards,
        lengths={"inputs": config.input_length, "targets": config.max_chunk_length},
        num_shards=num_shards,
        seed=config.seed if training else 0,
        training=training,
        reading=Reading(
            per_step=per_step / num_shards if training else None, packed=config.pack, provenance=False
        ),
        finish=parts,
    )


def _unreadable(task: str, error: tf.errors.OpError) -> DataError:
    """The error for examples that cannot be read, or that failed an assertion inside the graph."""
    line = re.sub(r"\{\{function_node .*?\}\} ?|\[Op:.*", "", error.message.splitlines()[0]).strip()
    found = line.split("assertion failed: ")[-1].replace("[", "").replace("]", "")
    return DataError(f"task {task!r} cannot be read: {found}; repair its files, or change its preprocessors")


def shards_of_this_host(num_shards: int) -> range:
    """The logical shards that this host reads; ConfigError if hosts cannot share them evenly."""
    hosts = jax.process_count()
    if num_shards % hosts:
        raise ConfigError(
            f"data.shards={num_shards} is not a multiple of the {hosts} hosts; start the run with "
            f"--data.shards {hosts}"
        )
    share = num_shards // hosts
    return range(jax.process_index() * share, (jax.process_index() + 1) * share)
