"""The cost of noise: source tokens per second for each preset, compared with the same pipeline without noise.

    python benchmarks/corruption.py [--presets bart_paper text_infilling] [--length 512]

Three pipelines over the quick-start corpus, each read once to its end with tf.data's default threads:

  one by one  a preset applied to one example at a time, from ids, and nothing else
  from ids    the SeqIO preprocessor: batches, noise, provenance, </s>; from tokenized chunks in memory
  from text   the complete pipeline: sentences, SentencePiece, chunks, noise, packed rows

"bare" is the same pipeline without noise (from ids: </s> appended to both sides). The rows of a table are
measured in turns and report the best of several, so that load on the machine affects all of them equally.
The last column is thousands of tokens per second of two processes that read the pipeline at the same time.
"""

import argparse
import concurrent.futures
import itertools
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import seqio
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from denoise_jax.corruption import presets, record
from denoise_jax.data import chunking, preprocessors, registry
from denoise_jax.data.packing import DenoisingFeatureConverter
from denoise_jax.vocabulary.base import EOS_ID
from denoise_jax.vocabulary.load import load_vocabulary
from denoise_jax.vocabulary.training import train_sentencepiece

TURNS = 3
REPEATS = 8  # of the corpus per measurement, which makes the start of a pipeline negligible
BARE = "bare"


class Pipelines:
    """The three pipelines over the same speeches; each method returns the dataset for a preset."""

    def __init__(self, folder: str, length: int):
        self._lengths = {"inputs": length + length // 4, "targets": length}
        self._provenance = True
        self._features = preprocessors.output_features(folder)
        self._symbols = preprocessors.noise_symbols(load_vocabulary(folder))
        texts = itertools.islice(
            registry.texts(registry.find_task("quickstart", ["tasks"]), "train"), 0, None, 8
        )
        documents = tf.data.Dataset.from_tensor_slices({"text": list(texts)})
        chunks = next(iter(self._chunks(documents).ragged_batch(100_000)))
        self._ids = tf.data.Dataset.from_tensor_slices(chunks).repeat(REPEATS)
        self._texts = documents.repeat(REPEATS)
        self.tokens = REPEATS * int(tf.size(chunks["targets"].flat_values))
        self.examples = REPEATS * int(chunks["targets"].nrows())

    def one_by_one(self, preset: str) -> tf.data.Dataset:
        if preset == BARE:
            return self._ids
        apply = presets.build(preset, self._symbols, max_tokens=self._lengths["targets"])

        def noise(index, example):
            noised = apply(record.clean(example["targets"], example["sentence_ids"]), index[tf.newaxis])
            return noised.ids, noised.source, noised.span, noised.op, noised.outputs, noised.target_noise

        return self._ids.enumerate().map(noise)

    def from_ids(self, preset: str) -> tf.data.Dataset:
        return self._closed(self._ids) if preset == BARE else self._noised(self._ids, preset)

    def from_text(self, preset: str) -> tf.data.Dataset:
        self._provenance = False  # as in training
        chunks = self._chunks(self._texts)
        chunks = self._closed(chunks) if preset == BARE else self._noised(chunks, preset)
        return DenoisingFeatureConverter()(chunks, self._lengths)

    def _chunks(self, texts: tf.data.Dataset) -> tf.data.Dataset:
        tokens = chunking.tokenize_sentences(texts, self._features)
        return chunking.chunk_documents(tokens, self._lengths)

    def _closed(self, chunks: tf.data.Dataset) -> tf.data.Dataset:
        def close(example):
            closed = tf.concat([example["targets"], [EOS_ID]], 0)
            return {"inputs": closed, "targets": closed}

        return chunks.map(close)

    def _noised(self, chunks: tf.data.Dataset, preset: str) -> tf.data.Dataset:
        noise = preprocessors.corrupt("benchmark", preset)
        noise = noise.bind(preprocessors.Reading(provenance=self._provenance))
        with seqio.utils.map_seed_manager(0):
            return noise(chunks, self._features, self._lengths)


def seconds(dataset: tf.data.Dataset) -> tuple[float, float]:
    """(CPU, wall-clock) seconds that it takes to read the dataset once."""
    cpu, wall = time.process_time(), time.perf_counter()
    int(dataset.reduce(tf.constant(0, tf.int64), lambda count, *_: count + 1))
    return time.process_time() - cpu, time.perf_counter() - wall


def measure(folder: str, length: int, pipeline: str, names: list[str]) -> dict:
    """Best CPU and wall-clock seconds of each preset and of the bare pipeline, measured in turns."""
    pipelines = Pipelines(folder, length)
    build: Callable = getattr(pipelines, pipeline)
    datasets = {name: build(name) for name in [BARE, *names]}
    best = dict.fromkeys(datasets, (float("inf"), float("inf")))
    for _, (name, dataset) in itertools.product(range(TURNS), datasets.items()):
        best[name] = tuple(map(min, best[name], seconds(dataset)))
    return {"best": best, "tokens": pipelines.tokens, "examples": pipelines.examples}


def table(title: str, alone: dict, together: list[dict]) -> Table:
    result = Table("preset", "k tokens / CPU s", "k tokens / s", "of bare", "µs above bare", "2 processes")
    result.title = title
    tokens, examples = alone["tokens"], alone["examples"]
    bare = alone["best"][BARE][0]
    for name, (cpu, wall) in alone["best"].items():
        both = sum(tokens / process["best"][name][1] for process in together)
        above = "" if name == BARE else f"{(cpu - bare) / examples * 1e6:.0f}"
        cells = (tokens / cpu / 1e3, tokens / wall / 1e3)
        result.add_row(name, *(f"{c:,.0f}" for c in cells), f"{bare / cpu:.0%}", above, f"{both / 1e3:,.0f}")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="*", default=list(presets.PRESETS), choices=list(presets.PRESETS))
    parser.add_argument("--length", type=int, default=512, help="longest chunk, in tokens")
    pipelines = ["one_by_one", "from_ids", "from_text"]
    parser.add_argument("--pipelines", nargs="*", default=pipelines, choices=pipelines)
    arguments = parser.parse_args()
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as folder:
        texts = registry.texts(registry.find_task("quickstart", ["tasks"]), "train")
        train_sentencepiece(texts, Path(folder) / "v", size=8000, model_type="bpe", sentinels=100)
        for pipeline in arguments.pipelines:
            job = (f"{folder}/v", arguments.length, pipeline, arguments.presets)
            alone = measure(*job)
            spawn = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=spawn) as pool:
                running = [pool.submit(measure, *job) for _ in range(2)]
                together = [future.result() for future in running]
            mean = alone["tokens"] / alone["examples"]
            title = (
                f"{pipeline.replace('_', ' ')}: {alone['examples']} chunks of {mean:.0f} tokens on average"
            )
            console.print(table(title, alone, together))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
