"""Packing: `DenoisingFeatureConverter` against SeqIO's own packing of the same examples.

    python benchmarks/packing.py [--seconds 10]

Both read the same examples from memory: ids of 512-token chunks under infilling, and short chunks. The third
line is the upper bound: the same examples batched without packing. CPU seconds are those of the process,
including TensorFlow's threads; compare only lines of one run.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import seqio
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from denoise_jax.data.packing import DenoisingFeatureConverter

SHAPES = {"chunks up to 512": (448, 512, 512), "chunks up to 64 in rows of 128": (104, 128, 64)}


def examples(longest: int, count: int = 20_000) -> dict[str, tf.RaggedTensor]:
    """Targets of 40 % to 100 % of `longest` tokens, and inputs of four fifths of that."""
    random = np.random.default_rng(0)
    targets = random.integers(int(0.4 * longest), longest + 1, count)
    inputs = np.maximum((targets * 0.8).astype(int), 1)

    def ragged(lengths):
        return tf.RaggedTensor.from_row_lengths(
            random.integers(5, 2000, lengths.sum()).astype(np.int32), lengths
        )

    return {"inputs": ragged(inputs), "targets": ragged(targets)}


def measure(dataset: tf.data.Dataset, target: str, seconds: float) -> tuple[float, float]:
    """(target tokens per CPU second, share of positions that are not padding)."""
    rows = iter(dataset.batch(64, drop_remainder=True).prefetch(2).repeat())
    next(rows)
    tokens = positions = 0
    began = time.process_time()
    while (spent := time.process_time() - began) < seconds:
        batch = next(rows)[target].numpy()
        tokens += int((batch > 0).sum())
        positions += batch.size
    return tokens / spent, tokens / positions


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="CPU seconds for each line")
    seconds = parser.parse_args().seconds
    table = Table("examples", "packing", "thousand target tokens / CPU s", "ratio to SeqIO", "row filled")
    for name, (input_length, target_length, longest) in SHAPES.items():
        lengths = {"inputs": input_length, "targets": target_length}
        source = tf.data.Dataset.from_tensor_slices(examples(longest))
        variants = {
            "SeqIO": (seqio.EncDecFeatureConverter(pack=True)(source, lengths), "decoder_target_tokens"),
            "ours": (DenoisingFeatureConverter(pack=True)(source, lengths), "decoder_target_tokens"),
            "none (upper bound)": (seqio.utils.trim_and_pad_dataset(source, lengths), "targets"),
        }
        peer = None
        for variant, (dataset, target) in variants.items():
            speed, filled = measure(dataset, target, seconds)
            peer = peer or speed
            table.add_row(name, variant, f"{speed / 1e3:,.0f}", f"{speed / peer:.2f}", f"{filled:.1%}")
    Console().print(table)


if __name__ == "__main__":
    main()
