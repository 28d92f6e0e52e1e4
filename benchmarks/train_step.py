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
from pathlib import Path

from peers import PYTHON, SHAPES, Shape, bart_config, best_of, check_installed, take_turns, work

ROOT = Path(__file__).parents[1]
BATCH, LENGTH = 8, 128
STEPS = {"tiny": 5, "base": 1}  # per turn
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
    model = transformers.BartForConditionalGeneration(bart_config(shape, dropout=0.1)).train()
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
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
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
