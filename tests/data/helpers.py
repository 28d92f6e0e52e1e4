"""Denoising tasks over texts or ids in memory, and reading them as the loader does."""

from collections.abc import Iterable, Sequence

import numpy as np
import seqio
import tensorflow as tf

from denoise_jax.data import preprocessors, registry


def text_source(texts: Sequence[str]) -> seqio.FunctionDataSource:
    """A source of examples with a feature `text`."""

    def dataset(split, shuffle_files, seed=None):
        del split, shuffle_files, seed
        return tf.data.Dataset.from_tensor_slices({"text": list(texts)})

    return seqio.FunctionDataSource(dataset, splits=["train"])


def text_task(
    name: str, texts: Sequence[str], vocabulary, corruption="bart_paper", language=None
) -> seqio.Task:
    """A denoising task over texts, not registered."""
    return seqio.Task(
        name,
        source=text_source(texts),
        preprocessors=preprocessors.denoising(name, corruption, language=language),
        output_features=preprocessors.output_features(vocabulary),
    )


def ids_task(
    texts: Iterable[np.ndarray],
    vocabulary: seqio.Vocabulary,
    corruption,
    length: int | None = None,
    **options,
) -> seqio.Task:
    """A task `ids` over token ids, of one static length if `length` is given; `options` of `corrupt`."""

    def dataset(split, shuffle_files, seed=None):
        del split, shuffle_files, seed
        spec = {"targets": tf.TensorSpec([length], tf.int32)}
        return tf.data.Dataset.from_generator(
            lambda: ({"targets": ids} for ids in texts), output_signature=spec
        )

    feature = seqio.Feature(vocabulary, add_eos=False, dtype=tf.int32)
    return seqio.Task(
        "ids",
        source=seqio.FunctionDataSource(dataset, splits=["train"]),
        preprocessors=[preprocessors.corrupt("ids", corruption, **options)],
        output_features={"inputs": feature, "targets": feature},
    )


def open_task(
    task, *, limit=40, input_limit=80, seed=0, num_shards=1, shard=0, split="train", **reading
) -> tf.data.Dataset:
    """One pass over a shard, with `inputs` and `targets` of at most `input_limit` and `limit` tokens.

    Further arguments are fields of `Reading`.
    """
    (dataset,) = registry.open_shards(
        task,
        split,
        [shard],
        lengths={"inputs": input_limit, "targets": limit},
        num_shards=num_shards,
        seed=seed,
        training=False,
        reading=preprocessors.Reading(**reading),
    )
    return dataset


def read_task(task, **options) -> list[dict[str, np.ndarray]]:
    """The examples of `open_task`, in NumPy."""
    return list(open_task(task, **options).as_numpy_iterator())
