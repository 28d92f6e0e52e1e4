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
import os
import sys

from peers import PYTHON, SHAPES, Shape, best_of, check_installed, take_turns, work
from steps import our_step, transformers_step

BATCH, LENGTH = 8, 128
STEPS = {"tiny": 5, "base": 1}  # per turn
DTYPES = ("float32", "bfloat16")


def ours(shape: Shape, dtype: str):
    """(a function that takes a step and returns its loss, FLOPs of a step, FLOP/s of a large product)."""
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["JAX_PLATFORMS"] = "cpu"
    step, flops = our_step(shape, BATCH, LENGTH, compute_dtype=dtype)
    import jax
    import jax.numpy as jnp

    square = jnp.ones((1024, 1024), dtype)
    product = jax.jit(lambda a, b: a @ b)
    seconds = best_of(20, lambda: jax.block_until_ready(product(square, square)))
    return lambda: float(step()), flops, 2 * 1024**3 / seconds


def theirs(shape: Shape, dtype: str):
    """The same for transformers. Runs in the peer's environment."""
    import torch

    torch.set_num_threads(1)
    step = transformers_step(shape, BATCH, LENGTH, dtype)
    square = torch.ones((1024, 1024), dtype=getattr(torch, dtype))
    return lambda: step().item(), 0.0, 2 * 1024**3 / best_of(20, lambda: square @ square)


def worker(peer: str, shape: str, dtype: str) -> None:
    """Takes two steps, and then several for each line of input (see `peers.work`)."""

    def prepare():
        run, flops, speed = {"ours": ours, "theirs": theirs}[peer](SHAPES[shape], dtype)
        losses = [run(), run()]
        return lambda: [run() for _ in range(STEPS[shape])], {
            "flops": flops,
            "speed": speed,
            "losses": losses,
        }

    work(prepare)


def measure(shape: str, peer_python: str, turns: int) -> dict[tuple[str, str], dict]:
    """For each (peer, dtype): the best CPU seconds of a step, and what its worker reported."""
    pythons = {"ours": sys.executable, "theirs": peer_python}
    commands = {
        (peer, dtype): [python, __file__, "--worker", peer, shape, dtype]
        for peer, python in pythons.items()
        for dtype in DTYPES
    }
    # Large pages, and freed memory is kept: what `make` and `train` do, for both.
    kept = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=100000000000:glibc.malloc.arena_max=1"
    found = take_turns(commands, turns, {"GLIBC_TUNABLES": f"glibc.malloc.hugetlb=1:{kept}"})
    return {key: {**result, "seconds": result["seconds"] / STEPS[shape]} for key, result in found.items()}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", default=PYTHON, help="Python that has transformers")
    parser.add_argument("--shapes", nargs="*", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(*arguments.worker)
    check_installed(arguments.peer_python)
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
