"""How long saving a checkpoint holds up training: BART-base's state, and the position in the data.

    python benchmarks/saving.py [--folder FOLDER] [--repeats 5]

Blocking is the time until `save` returns; the rest happens in the background. The fingerprints are computed
by the device, so on a CPU the next step waits for them. The limit beside them is a copy of the same bytes in
memory; on a CPU, Orbax reads the arrays where they are.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from configs import bart_base, quickstart
from denoise_jax.config import Config
from denoise_jax.data.loader import TrainLoader
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.paths import to_path
from denoise_jax.runs.checkpoint import Checkpointer
from denoise_jax.runs.fingerprints import fingerprints
from denoise_jax.training.optimizer import make_optimizer
from denoise_jax.training.state import count_parameters, create_state
from denoise_jax.vocabulary.training import train_sentencepiece
from tests.tiny_corpus import speeches


def milliseconds(action: Callable[[], object], repeats: int) -> tuple[float, float]:
    """(median, maximum)."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times), max(times)


def measure_state(config: Config, folder: Path, repeats: int, table: Table) -> None:
    """Lines for a checkpoint of the state of `config`."""
    mesh = make_mesh(config.parallel)
    state = create_state(config, make_optimizer(config.optimizer, config.training.num_steps), mesh)
    what = f"{count_parameters(state) / 1e6:.0f} M parameters"
    bytes_saved = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    checkpoints = Checkpointer(folder / "checkpoints", config.training)
    steps = iter(range(1, 1000))
    waits = []

    def save() -> None:
        checkpoints.save(next(steps), state, config=config, vocabulary={}, data={})

    def save_and_wait() -> float:
        blocked, _ = milliseconds(save, 1)
        began = time.perf_counter()
        checkpoints.wait()
        waits.append(time.perf_counter() - began)
        return blocked

    save_and_wait()
    blocked = [save_and_wait() for _ in range(repeats)]
    copied = milliseconds(lambda: [np.array(leaf) for leaf in jax.tree.leaves(state)], repeats)
    marked = milliseconds(lambda: fingerprints(state), repeats)
    table.add_row(what, "save, blocking", f"{statistics.median(blocked):,.0f}", f"{max(blocked):,.0f}")
    table.add_row(what, "fingerprints, after it", f"{marked[0]:,.0f}", f"{marked[1]:,.0f}")
    limit = f"limit: copy of {bytes_saved / 1e9:.1f} GB"
    table.add_row(what, limit, f"{copied[0]:,.0f}", f"{copied[1]:,.0f}")
    table.add_row(what, "until it is on disk", f"{1e3 * statistics.median(waits):,.0f}", "")


def measure_position(folder: Path, repeats: int, table: Table) -> None:
    """A line for the position of one data shard of the quick start, with its shuffle buffer full."""
    texts = [Path(file).read_text(encoding="utf-8") for file in speeches()["train"][-3:]]
    vocabulary = train_sentencepiece(texts, folder / "vocabulary", size=512, sentinels=24)
    loader = TrainLoader(quickstart.config().data, vocabulary)
    next(loader)
    size = sum(map(len, loader.state().values()))
    position = milliseconds(loader.snapshot, repeats)
    what = f"one data shard, {size / 1e6:.1f} MB"
    table.add_row(what, "position, blocking", f"{position[0]:,.0f}", f"{position[1]:,.0f}")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="where to save, such as gs://bucket/speed")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    table = Table("what", "part", "median ms", "maximum ms")
    with tempfile.TemporaryDirectory() as temporary:
        folder = to_path(arguments.folder or temporary)
        config = bart_base.config().replace(model={"vocab_size": 50_265})
        measure_state(config, folder, arguments.repeats, table)
        measure_position(Path(temporary), arguments.repeats, table)
    Console().print(table)


if __name__ == "__main__":
    main()
