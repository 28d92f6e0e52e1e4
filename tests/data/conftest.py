"""Reading a task as the loader does."""

from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def read_task() -> Callable[..., list[dict]]:
    """read_task(task): its examples, in NumPy, of `limit` and `input_limit` tokens at most."""
    from denoise_jax.data import preprocessors, tasks

    def run(task, *, limit=40, input_limit=80, seed=0, num_shards=1, **how):
        dataset = tasks.open_shard(
            task,
            "train",
            lengths={"inputs": input_limit, "targets": limit},
            num_shards=num_shards,
            seed=seed,
            training=False,
            how=preprocessors.Reading(**how),
        )
        return list(dataset.as_numpy_iterator())

    return run
