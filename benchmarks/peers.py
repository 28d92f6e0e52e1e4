"""What the benchmarks against other libraries share: shapes, workers in processes of their own, and turns.

Imported in the peer's environment too, so it needs the standard library only.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

PYTHON = os.environ.get("PEER_PYTHON", str(Path.home() / ".cache" / "denoise_jax_peers" / "bin" / "python"))
PAD, END, START = 0, 1, 3


class Shape(NamedTuple):
    layers: int  # of each side
    width: int
    heads: int
    ffn: int
    vocabulary: int


SHAPES = {
    "tiny": Shape(2, 256, 4, 1024, 8192),
    "base": Shape(6, 768, 12, 3072, 50_265),
    "large": Shape(12, 1024, 16, 4096, 50_265),
}


def bart_config(shape: Shape, **options):
    """The configuration of transformers, which only the peer's environment has."""
    import transformers

    return transformers.BartConfig(
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
        attn_implementation="sdpa",
        **options,
    )


def best_of(times: int, call: Callable) -> float:
    """The fewest CPU seconds of several calls."""
    spent = []
    for _ in range(times):
        began = time.process_time()
        call()
        spent.append(time.process_time() - began)
    return min(spent)


def work(prepare: Callable[[], tuple[Callable, dict]]) -> None:
    """A worker on one CPU: `prepare` gives what is timed and what is reported once; then the CPU seconds of a
    call are reported for each line of input."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries may print
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    run, report = prepare()
    print(json.dumps(report), file=answers, flush=True)
    for _ in sys.stdin:
        print(best_of(1, run), file=answers, flush=True)


def take_turns(commands: Mapping, turns: int, environment: Mapping[str, str] | None = None) -> dict:
    """Starts a worker for each command and lets them take turns.

    Returns:
      For each key of `commands`, what its worker reported, and "seconds", its best turn.
    """
    single = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    workers, found = {}, {}
    for key, command in commands.items():
        workers[key] = process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("VERBOSE") else subprocess.DEVNULL,
            text=True,
            env={**os.environ, **(environment or {}), **single},
        )
        first = process.stdout.readline()
        if not first:
            sys.exit(f"the process of {key!r} died; VERBOSE=1 shows why")
        found[key] = {**json.loads(first), "seconds": float("inf")}
    for _ in range(turns):
        for key, process in workers.items():
            print("go", file=process.stdin, flush=True)
            found[key]["seconds"] = min(found[key]["seconds"], float(process.stdout.readline()))
    for process in workers.values():
        process.communicate()
    return found


def check_installed(python: str) -> None:
    """Ends the program unless the peer's interpreter exists."""
    if not Path(python).exists():
        sys.exit(f"{python} is missing: run benchmarks/setup_peers.sh, or pass --peer-python")
