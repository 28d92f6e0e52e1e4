"""The train step on one CPU thread, compared with Hugging Face transformers: target tokens per CPU second.

    benchmarks/setup_peers.sh                                 # once; needs network
    python benchmarks/train_step.py [--peer-python PYTHON] [--shapes tiny base] [--turns 5]

Both take whole steps of AdamW with clipping and dropout 0.1 on the same kind of batch: 8 rows of 128 + 128
tokens. bfloat16 is `model.compute_dtype` here and autocast there. Each runs in its own process, pinned to one
CPU with one thread. They take turns, so that load from other programs affects all, and the best turn counts.
The limit is the time of the matrix products at the speed of a large product in that dtype on that CPU.
Compare only numbers from the same run.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PEERS = Path.home() / ".cache" / "denoise_jax_peers"
BATCH, LENGTH = 8, 128
PAD, END, START = 0, 1, 3


class Shape(NamedTuple):
    layers: int  # of each side
    width: int
    heads: int
    ffn: int
    vocabulary: int
    steps: int  # per turn


SHAPES = {"tiny": Shape(2, 256, 4, 1024, 8192, 5), "base": Shape(6, 768, 12, 3072, 50_265, 1)}
DTYPES = ("float32", "bfloat16")


def ids(shape: Shape):
    """int32 [2, BATCH, LENGTH]: source and target tokens."""
    import numpy as np

    return np.random.default_rng(0).integers(4, shape.vocabulary, (2, BATCH, LENGTH)).astype(np.int32)


def ours(shape: Shape, dtype: str):
    """(a function that takes a step and returns its loss, FLOPs of a step, FLOP/s of a large product)."""
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["JAX_PLATFORMS"] = "cpu"
    sys.path.insert(0, str(ROOT))
    from denoise_jax.parallel.memory import keep_freed_memory

    keep_freed_memory()  # as `train` does
    import jax
    import jax.numpy as jnp
    import numpy as np

    from denoise_jax.config import Config, DataConfig, ModelConfig, TrainingConfig
    from denoise_jax.model.flops import training_flops
    from denoise_jax.parallel.mesh import make_mesh
    from denoise_jax.training.optimizer import make_optimizer
    from denoise_jax.training.state import abstract_state, create_state
    from denoise_jax.training.step import make_train_step

    model = ModelConfig(
        vocab_size=shape.vocabulary,
        embed_dim=shape.width,
        num_heads=shape.heads,
        ffn_dim=shape.ffn,
        num_encoder_layers=shape.layers,
        num_decoder_layers=shape.layers,
        compute_dtype=dtype,
        scan_layers=False,
        remat="none",
    )
    data = DataConfig(vocabulary="none", batch_size=BATCH, input_length=LENGTH, target_length=LENGTH)
    config = Config(name="step", model=model, data=data, training=TrainingConfig(num_steps=100_000))
    mesh, optimizer = make_mesh(config.parallel), make_optimizer(config.optimizer, 100_000)
    step = make_train_step(config, optimizer, mesh, abstract_state(config, optimizer, mesh))
    source, target = ids(shape)
    ones, positions = np.ones_like(source), np.broadcast_to(np.arange(LENGTH, dtype=np.int32), source.shape)
    batch = {
        "encoder_input_tokens": source,
        "encoder_segment_ids": ones,
        "encoder_positions": positions,
        "decoder_input_tokens": np.roll(target, 1, axis=1),
        "decoder_segment_ids": ones,
        "decoder_positions": positions,
        "decoder_target_tokens": target,
        "decoder_target_kind": ones,
    }
    batch = jax.device_put(batch)
    states = [create_state(config, optimizer, mesh)]

    def run() -> float:
        state, metrics = step(states.pop(), batch)
        states.append(state)
        return float(metrics["loss"] / metrics["tokens"])

    square = jnp.ones((1024, 1024), dtype)
    product = jax.jit(lambda a, b: a @ b)
    seconds = best_of(20, lambda: jax.block_until_ready(product(square, square)))
    return run, training_flops(config), 2 * 1024**3 / seconds


def theirs(shape: Shape, dtype: str):
    """The same for transformers. Runs in the peer's environment."""
    import torch
    import transformers

    torch.set_num_threads(1)
    torch.manual_seed(0)
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
        dropout=0.1,
        attn_implementation="sdpa",
    )
    model = transformers.BartForConditionalGeneration(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, fused=True)
    source, target = (torch.tensor(x).long() for x in ids(shape))

    def run() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = model(input_ids=source, labels=target).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        return loss.item()

    square = torch.ones((1024, 1024), dtype=getattr(torch, dtype))
    return run, 0.0, 2 * 1024**3 / best_of(20, lambda: square @ square)


def best_of(times: int, call) -> float:
    """The fewest CPU seconds of several calls."""
    spent = []
    for _ in range(times):
        began = time.process_time()
        call()
        spent.append(time.process_time() - began)
    return min(spent)


def worker(peer: str, shape: str, dtype: str) -> None:
    """Takes two steps, reports what is known, and then the CPU seconds of a step for each line of input."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries may print
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    run, flops, speed = {"ours": ours, "theirs": theirs}[peer](SHAPES[shape], dtype)
    losses = [run(), run()]
    print(json.dumps({"flops": flops, "speed": speed, "losses": losses}), file=answers, flush=True)
    steps = SHAPES[shape].steps
    for _ in sys.stdin:
        print(best_of(1, lambda: [run() for _ in range(steps)]) / steps, file=answers, flush=True)


def start(python: str, peer: str, shape: str, dtype: str) -> tuple[subprocess.Popen, dict]:
    """Starts a worker; returns it and its first line, once it is ready."""
    # Large pages, and freed memory is kept: what `train` does by itself, for both.
    kept = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=100000000000:glibc.malloc.arena_max=1"
    environment = {**os.environ, "GLIBC_TUNABLES": f"glibc.malloc.hugetlb=1:{kept}"}
    process = subprocess.Popen(
        [python, __file__, "--worker", peer, shape, dtype],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("VERBOSE") else subprocess.DEVNULL,
        text=True,
        env={**environment, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )
    first = process.stdout.readline()
    if not first:
        sys.exit(f"the process of {peer!r} died; VERBOSE=1 shows why")
    return process, json.loads(first)


def measure(shape: str, peer_python: str, turns: int) -> dict[tuple[str, str], dict]:
    """For each (peer, dtype): the best CPU seconds of a step, and what its worker reported."""
    pythons = {"ours": sys.executable, "theirs": peer_python}
    workers = {(p, d): start(python, p, shape, d) for p, python in pythons.items() for d in DTYPES}
    found = {key: {**first, "seconds": float("inf")} for key, (_, first) in workers.items()}
    for _ in range(turns):
        for key, (process, _) in workers.items():
            print("go", file=process.stdin, flush=True)
            found[key]["seconds"] = min(found[key]["seconds"], float(process.stdout.readline()))
    for process, _ in workers.values():
        process.communicate()
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("PEER_PYTHON", str(PEERS / "bin" / "python"))
    parser.add_argument("--peer-python", default=default, help="Python that has transformers")
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(*arguments.worker)
    if not Path(arguments.peer_python).exists():
        sys.exit(f"{arguments.peer_python} is missing: run benchmarks/setup_peers.sh, or pass --peer-python")
    from rich.console import Console
    from rich.table import Table

    columns = (
        "target tokens / CPU s",
        "ratio to PyTorch",
        "of the matrix peak",
        "GFLOP/s of it",
        "first losses",
    )
    table = Table("shape", "dtype", "library", *columns)
    for name in arguments.shapes:
        found = measure(name, arguments.peer_python, arguments.turns)
        for dtype in DTYPES:
            for peer, library in (("theirs", "transformers"), ("ours", "denoise_jax")):
                result, flops = found[peer, dtype], found["ours", dtype]["flops"]
                cells = (
                    f"{BATCH * LENGTH / result['seconds']:,.0f}",
                    f"{found['theirs', dtype]['seconds'] / result['seconds']:.2f}",
                    f"{flops / result['seconds'] / result['speed']:.0%}",
                    f"{result['speed'] / 1e9:,.0f}",
                    " ".join(f"{loss:.3f}" for loss in result["losses"]),
                )
                table.add_row(name, dtype, library, *cells, end_section=peer == "ours")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
