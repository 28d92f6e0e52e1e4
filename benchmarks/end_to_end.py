"""Whole runs from text to update: how long a step waits for data, and how much faster data could come.

    python benchmarks/end_to_end.py [--configs quickstart bart_base] [--vocabulary FOLDER] [--rows 8]

Trains each configuration on the quick-start corpus in a temporary folder for `--steps` steps, and reads its
log. The first half of the steps, which fill buffers, are left out. The limit is the data pipeline alone, with
all cores to itself. The vocabulary is small, so a step is shorter than with a usual one.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))


def measure(name: str, vocabulary: str, rows: int, steps: int, folder: Path) -> dict[str, float]:
    """Medians of what the second half of a run logged, and tokens per second of its data alone."""
    import denoise_jax
    from denoise_jax.data.throughput import tokens_per_second
    from denoise_jax.runs.list_runs import read_metrics

    config = denoise_jax.load_config(name).replace(
        data={"vocabulary": vocabulary, "batch_size": rows, "shards": 1},
        training={"num_steps": steps, "log_every": 1, "save_every": steps, "evaluate_every": steps},
        optimizer={"warmup_steps": 1},
        evaluation={"max_batches": 1},
    )
    denoise_jax.train(config, folder / name, cache_dir=folder / "compiled")
    log = [line for line in read_metrics(folder / name) if "train/data_wait" in line][steps // 2 :]
    names = ("train/tokens", "train/tokens_per_second", "train/data_wait")
    alone = tokens_per_second(config.data, denoise_jax.load_vocabulary(vocabulary))
    return {key: statistics.median(line[key] for line in log) for key in names} | {"alone": alone}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="*", default=["quickstart", "bart_base"])
    parser.add_argument("--vocabulary", default="vocabularies/quickstart", help="made by `make quickstart`")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    from rich.console import Console
    from rich.table import Table

    columns = ("s / step", "target tokens / s", "waiting for data", "data alone, tokens / s", "times as fast")
    table = Table("configuration", "rows", *columns)
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.configs:
            found = measure(name, arguments.vocabulary, arguments.rows, arguments.steps, Path(folder))
            tokens = found["train/tokens_per_second"]
            table.add_row(
                name,
                str(arguments.rows),
                f"{found['train/tokens'] / tokens:.3f}",
                f"{tokens:,.0f}",
                f"{found['train/data_wait']:.3%}",
                f"{found['alone']:,.0f}",
                f"{found['alone'] / tokens:,.0f}",
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
