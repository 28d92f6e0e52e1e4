"""Beam search compared with Hugging Face transformers: new tokens per CPU second, in float32.

    benchmarks/setup_peers.sh                                 # once; needs network
    python benchmarks/generate.py [--peer-python PYTHON] [--shapes tiny base] [--turns 3]

Both generate exactly 64 new tokens per prompt with 4 beams, from the same random weights and the same prompts
(batch 8, 128 tokens). Each runs in its own process, pinned to one CPU with one thread. They take turns, so
that load from other programs affects both, and the best turn counts. Compiling and loading are not measured.
The limit is the time that the matrix products with the weights alone would take at the speed of a large
matrix product on that CPU. Compare only numbers from the same run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PEERS = Path.home() / ".cache" / "denoise_jax_peers"
BATCH, SOURCE, NEW, BEAMS = 8, 128, 64, 4
PAD, END, START = 0, 1, 3


class Shape(NamedTuple):
    layers: int  # of each side
    width: int
    heads: int
    ffn: int
    vocabulary: int


SHAPES = {"tiny": Shape(2, 256, 4, 1024, 8192), "base": Shape(6, 768, 12, 3072, 50_265)}


def work(shape: Shape) -> dict[str, float]:
    """FLOPs of the matrix products with weights, by part of the model."""
    square = shape.width**2
    block = 2 * shape.width * shape.ffn
    sources, rows = BATCH * SOURCE, BATCH * BEAMS * NEW
    return {
        "encoder": 2 * sources * shape.layers * (4 * square + block),
        "source keys and values": 2 * sources * shape.layers * 2 * square,
        "decoder layers": 2 * rows * shape.layers * (6 * square + block),
        "vocabulary": 2 * rows * shape.width * shape.vocabulary,
    }


def prompts(shape: Shape):
    """int32 [BATCH, SOURCE]."""
    import numpy as np

    return np.random.default_rng(0).integers(4, shape.vocabulary, (BATCH, SOURCE)).astype(np.int32)


def ours(shape: Shape, folder: Path):
    """Writes the weights for the peer; returns a function that generates, and FLOP/s of a large product."""
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["JAX_PLATFORMS"] = "cpu"
    sys.path.insert(0, str(ROOT))
    import jax
    import jax.numpy as jnp
    import numpy as np

    from denoise_jax.config import ModelConfig
    from denoise_jax.generation.decoding import DecodingOptions
    from denoise_jax.generation.search import generate_tokens
    from denoise_jax.interop.weights import tensors
    from denoise_jax.model.transformer import init_params

    config = ModelConfig(
        vocab_size=shape.vocabulary,
        embed_dim=shape.width,
        num_heads=shape.heads,
        ffn_dim=shape.ffn,
        num_encoder_layers=shape.layers,
        num_decoder_layers=shape.layers,
        compute_dtype="float32",
    )
    params = init_params(config, jax.random.key(0))
    np.savez(
        folder / "weights.npz", **dict(tensors(jax.device_get(params), config, np.arange(shape.vocabulary)))
    )
    tokens_BS = jnp.asarray(prompts(shape))
    options = DecodingOptions(NEW, START, END, min_new_tokens=NEW, num_beams=BEAMS)

    def run():
        return np.asarray(generate_tokens(config, params, tokens_BS, options).tokens_BRM[:, 0])

    square = jnp.ones((1024, 1024))
    product = jax.jit(lambda a, b: a @ b)
    return run, 2 * 1024**3 / best_of(20, lambda: jax.block_until_ready(product(square, square)))


def theirs(shape: Shape, folder: Path):
    """The same for transformers, with the weights written by `ours`. Runs in the peer's environment."""
    import numpy as np
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    config = transformers.BartConfig(
        vocab_size=shape.vocabulary,
        d_model=shape.width,
        encoder_layers=shape.layers,
        decoder_layers=shape.layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        encoder_ffn_dim=shape.ffn,
        decoder_ffn_dim=shape.ffn,
        pad_token_id=PAD,
        eos_token_id=END,
        bos_token_id=START,
        decoder_start_token_id=START,
        forced_eos_token_id=None,
        attn_implementation="sdpa",
    )
    model = transformers.BartForConditionalGeneration(config).eval()
    weights = {name: torch.tensor(array) for name, array in np.load(folder / "weights.npz").items()}
    model.load_state_dict(weights, strict=False)  # copies of the tied embedding are missing
    ids = torch.tensor(prompts(shape)).long()
    options = {"num_beams": BEAMS, "do_sample": False, "min_new_tokens": NEW, "max_new_tokens": NEW}

    def run():
        with torch.inference_mode():
            return model.generate(ids, attention_mask=torch.ones_like(ids), **options)[:, 1:].numpy()

    return run, 0.0


def best_of(times: int, call) -> float:
    """The fewest CPU seconds of several calls."""
    spent = []
    for _ in range(times):
        began = time.process_time()
        call()
        spent.append(time.process_time() - began)
    return min(spent)


def worker(peer: str, shape: str, folder: Path) -> None:
    """Generates once, prints the tokens, and then generates and prints the time for each line of input."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries may print
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    run, speed = {"ours": ours, "theirs": theirs}[peer](SHAPES[shape], folder)
    print(json.dumps({"tokens": run().tolist(), "speed": speed}), file=answers, flush=True)
    for _ in sys.stdin:
        print(best_of(1, run), file=answers, flush=True)


def start(python: str, peer: str, shape: str, folder: str) -> tuple[subprocess.Popen, dict]:
    """Starts a worker; returns it and its first line, once it is ready."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [python, __file__, "--worker", peer, shape, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("VERBOSE") else subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    first = process.stdout.readline()
    if not first:
        sys.exit(f"the process of {peer!r} died; VERBOSE=1 shows why")
    return process, json.loads(first)


def measure(shape: str, peer_python: str, turns: int) -> dict:
    """Best CPU seconds of each, number of prompts with equal outputs, and FLOP/s of a large product."""
    with tempfile.TemporaryDirectory() as folder:
        workers = {"ours": start(sys.executable, "ours", shape, folder)}
        workers["theirs"] = start(peer_python, "theirs", shape, folder)
        best = dict.fromkeys(workers, float("inf"))
        for _ in range(turns):
            for peer, (process, _) in workers.items():
                print("go", file=process.stdin, flush=True)
                best[peer] = min(best[peer], float(process.stdout.readline()))
        for process, _ in workers.values():
            process.communicate()
    pairs = zip(*(first["tokens"] for _, first in workers.values()), strict=True)
    return {**best, "same": sum(a == b for a, b in pairs), "speed": workers["ours"][1]["speed"]}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("PEER_PYTHON", str(PEERS / "bin" / "python"))
    parser.add_argument("--peer-python", default=default, help="Python that has transformers")
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        peer, shape, folder = arguments.worker
        return worker(peer, shape, Path(folder))
    if not Path(arguments.peer_python).exists():
        sys.exit(f"{arguments.peer_python} is missing: run benchmarks/setup_peers.sh, or pass --peer-python")
    from rich.console import Console
    from rich.table import Table

    table = Table("shape", "generator", "new tokens / CPU s", "ratio", "of the limit", "same outputs")
    for name in arguments.shapes:
        result, flops = measure(name, arguments.peer_python, arguments.turns), work(SHAPES[name])
        limit = sum(flops.values()) / result["speed"]
        seconds = {"transformers": result["theirs"], "denoise_jax": result["ours"], "limit": limit}
        for generator, spent in seconds.items():
            cells = f"{BATCH * NEW / spent:,.0f}", f"{result['theirs'] / spent:.2f}", f"{limit / spent:.0%}"
            same = f"{result['same']} of {BATCH}" if generator == "denoise_jax" else ""
            table.add_row(name, generator, *cells, same, end_section=generator == "limit")
        shares = ", ".join(f"{part} {share / sum(flops.values()):.0%}" for part, share in flops.items())
        print(
            f"{name}: {sum(flops.values()) / 1e9:.0f} GFLOP ({shares}); {result['speed'] / 1e9:.0f} GFLOP/s"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
