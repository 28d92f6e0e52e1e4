"""The train step on one GPU, compared with Hugging Face transformers under torch.compile.

    python benchmarks/train_step_gpu.py [--peer-python PYTHON] [--shape large] [--rows 8] [--length 1024]

Both take whole steps of AdamW with clipping, in bfloat16 with float32 parameters, on the same random tokens.
Ours computes with segment ids, so rows of several packed documents cost what others do; transformers gets
rows of one document without padding, its fastest case. Each variant runs alone in a process of its own. The
best of several turns counts, by the wall clock, and memory is the peak of what was allocated. Neither process
imports TensorFlow. Compare only numbers from the same card.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from peers import PYTHON, SHAPES, check_installed
from steps import our_step, transformers_step

STEPS, TURNS = 10, 4
_SCAN = {"scan_layers": True}
_CUDNN = {"attention": "cudnn", "attention_dropout": 0.0}
# Options of `our_step` or `transformers_step`. Layers are scanned, unless the variant says "unrolled".
VARIANTS = {
    ("transformers", "eager"): {},
    ("transformers", "torch.compile"): {"compiled": True},
    ("transformers", "torch.compile, attention dropout"): {"compiled": True, "attention_dropout": 0.1},
    ("denoise_jax", "cudnn"): {**_CUDNN, **_SCAN},
    ("denoise_jax", "cudnn, 4 documents a row"): {**_CUDNN, **_SCAN, "documents": 4},
    ("denoise_jax", "cudnn, unrolled"): _CUDNN,
    ("denoise_jax", "cudnn, remat"): {**_CUDNN, **_SCAN, "remat": "full"},
    ("denoise_jax", "plain"): {"attention": "plain", "attention_dropout": 0.0, **_SCAN},
    ("denoise_jax", "plain, attention dropout"): {"attention": "plain", "attention_dropout": 0.1, **_SCAN},
}


def measure(run: Callable, wait: Callable, memory: Callable) -> dict:
    """Seconds of a step, of the first step, the first losses, and the peak of memory in bytes."""
    began = time.perf_counter()
    losses = [float(run())]
    first = time.perf_counter() - began
    losses.append(float(run()))
    turns = []
    for _ in range(TURNS):
        began = time.perf_counter()
        for _ in range(STEPS):
            loss = run()
        wait(loss)
        turns.append((time.perf_counter() - began) / STEPS)
    return {"seconds": min(turns), "slowest": max(turns), "first": first, "losses": losses, "peak": memory()}


def ours(shape, rows: int, length: int, options: dict) -> dict:
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    run, flops = our_step(shape, rows, length, compute_dtype="bfloat16", **options)
    import jax

    from denoise_jax.parallel.chips import chip_of

    device = jax.devices()[0]
    found = measure(run, jax.block_until_ready, lambda: device.memory_stats()["peak_bytes_in_use"])
    chip = chip_of(device)
    return {
        **found,
        "flops": flops,
        "peak_flops": chip.flops if chip else None,
        "card": device.device_kind,
        "version": f"jax {jax.__version__}",
    }


def theirs(shape, rows: int, length: int, options: dict) -> dict:
    import torch
    import transformers

    torch.set_float32_matmul_precision("high")
    run = transformers_step(shape, rows, length, "bfloat16", device="cuda", **options)
    found = measure(run, lambda loss: torch.cuda.synchronize(), torch.cuda.max_memory_allocated)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return {**found, "card": torch.cuda.get_device_name(), "version": versions}


def print_table(results: dict, rows: int, length: int, flops: float, peak_flops: float | None) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = (
        "ms",
        "target tokens/s",
        "ratio to torch.compile",
        "MFU",
        "GiB",
        "first step s",
        "first losses",
    )
    table = Table("library", "variant", *columns)
    reference = results["transformers", "torch.compile"].get("seconds")
    for (library, variant), result in results.items():
        if "seconds" not in result:
            table.add_row(library, variant, result["error"])
            continue
        seconds = result["seconds"]
        table.add_row(
            library,
            variant,
            f"{1000 * seconds:.1f}",
            f"{rows * length / seconds:,.0f}",
            f"{reference / seconds:.2f}" if reference else "",
            f"{flops / seconds / peak_flops:.1%}" if peak_flops else "",
            f"{result['peak'] / 2**30:.1f}",
            f"{result['first']:.0f}",
            " ".join(f"{loss:.3f}" for loss in result["losses"]),
        )
    Console(width=130).print(table)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--peer-python", default=PYTHON, help="Python that has torch with CUDA and transformers"
    )
    parser.add_argument("--shape", default="large", choices=list(SHAPES))
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=1024, help="of the source and of the target")
    parser.add_argument("--only", nargs="*", help="variants, by the text in the table")
    parser.add_argument("--output", type=Path, help="JSON of what was measured")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    shape, rows, length = SHAPES[arguments.shape], arguments.rows, arguments.length
    if arguments.worker:
        library, variant = arguments.worker
        answers, sys.stdout = sys.stdout, sys.stderr  # libraries may print
        run = {"transformers": theirs, "denoise_jax": ours}[library]
        return print(json.dumps(run(shape, rows, length, VARIANTS[library, variant])), file=answers)
    check_installed(arguments.peer_python)
    results = {}
    for library, variant in VARIANTS:
        if arguments.only and variant not in arguments.only:
            continue
        python = {"transformers": arguments.peer_python, "denoise_jax": sys.executable}[library]
        command = [python, __file__, "--shape", arguments.shape, "--rows", str(rows), "--length", str(length)]
        done = subprocess.run([*command, "--worker", library, variant], capture_output=True, text=True)
        answer = done.stdout.strip().splitlines()
        error = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:200]
        results[library, variant] = json.loads(answer[-1]) if not done.returncode else {"error": error}
        print(f"{library}, {variant}: {results[library, variant]}", file=sys.stderr, flush=True)
    if arguments.output:
        arguments.output.write_text(
            json.dumps([{"library": a, "variant": b, **r} for (a, b), r in results.items()])
        )
    ours_first = next(
        (r for (library, _), r in results.items() if library == "denoise_jax" and "flops" in r), {}
    )
    print(*sorted({f"{r['card']}: {r['version']}" for r in results.values() if "card" in r}), sep="\n")
    results.setdefault(("transformers", "torch.compile"), {"error": "not measured"})
    print_table(results, rows, length, ours_first.get("flops", 0.0), ours_first.get("peak_flops"))


if __name__ == "__main__":
    main()
