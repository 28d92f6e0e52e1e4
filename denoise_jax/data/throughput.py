"""How fast the data pipeline of a run is on this machine."""

import time

from denoise_jax.config import DataConfig
from denoise_jax.data.loader import TrainLoader
from denoise_jax.vocabulary.base import Vocabulary


def tokens_per_second(config: DataConfig, vocabulary: Vocabulary, *, seconds: float = 10.0) -> float:
    """Target tokens per second that a `TrainLoader` delivers when nothing else waits for it.

    Padding does not count. The first batches, which fill the pipeline's buffers, are not timed.
    """
    loader = TrainLoader(config, vocabulary)
    for _ in range(3):
        next(loader)
    tokens, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        tokens += int((next(loader)["decoder_target_kind"] > 0).sum())
    return tokens / (time.perf_counter() - start)
