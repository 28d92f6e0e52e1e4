"""What TPUs should do with our configurations, by the compiler's estimates: a table over sizes and slices.

    make setup-tpu                                            # once
    python benchmarks/tpu_plan.py [--only WORD] [--output plans.jsonl]

Each row compiles a train step for a TPU slice, which takes one to ten minutes and needs no TPU. Rows of 512 +
512 tokens, a vocabulary of 50,265, dropout as configured (0.1, attention weights included) unless said. The
same command goes on where it was stopped. Nothing is run: docs/planning.md says what these figures are worth.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNROLLED = {"model": {"scan_layers": False, "remat": "none"}}
STILL = {"model": {"dropout": 0.0, "attention_dropout": 0.0}}

# label, configuration, topology, slices, rows per chip, changes
ROWS = (
    ("bart_base, unrolled", "bart_base", "v5e:1x1", 1, 16, {}),
    ("bart_base, unrolled", "bart_base", "v5e:1x1", 1, 32, {}),
    (
        "bart_base, scanned, remat full",
        "bart_base",
        "v5e:1x1",
        1,
        32,
        {"model": {"scan_layers": True, "remat": "full"}},
    ),
    ("bart_large", "bart_large", "v5e:1x1", 1, 16, {}),
    ("bart_large, no dropout", "bart_large", "v5e:1x1", 1, 16, STILL),
    ("bart_large, unrolled", "bart_large", "v5e:1x1", 1, 8, UNROLLED),
    (
        "bart_large, unrolled, no dropout",
        "bart_large",
        "v5e:1x1",
        1,
        8,
        {"model": {**UNROLLED["model"], **STILL["model"]}},
    ),
    ("bart_large", "bart_large", "v5e:16x16", 1, 16, {}),
    ("bart_large", "bart_large", "v6e:16x16", 1, 16, {}),
    ("bart_large", "bart_large", "v5e:4x4", 2, 16, {}),
    ("bart_xl, fsdp 16", "bart_xl", "v5e:16x16", 1, 16, {}),
)


def made(name: str, topology: str, slices: int, rows: int, changes: dict) -> dict:
    """The plan of one row as a dict, made in a process of its own."""
    request = json.dumps([name, topology, slices, rows, changes])
    result = subprocess.run(
        [sys.executable, __file__, "--row", request],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def worker(request: str) -> None:
    """Prints a plan as JSON."""
    sys.path.insert(0, str(ROOT))
    from denoise_jax.named_configs import load_config
    from denoise_jax.planning.plan import plan
    from denoise_jax.planning.topologies import topology_devices

    name, topology, slices, rows, changes = json.loads(request)
    chips = len(topology_devices(topology, slices))
    lengths = {"input_length": 512, "target_length": 512, "shards": 1, "batch_size": rows * chips}
    config = load_config(name).replace(**changes).replace(model={"vocab_size": 50265}, data=lengths)
    print(json.dumps(dataclasses.asdict(plan(config, topology, slices=slices))))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="rows whose label and topology contain this")
    parser.add_argument("--output", type=Path, default=Path("plans.jsonl"))
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        return worker(arguments.row)
    sys.path.insert(0, str(ROOT))
    from rich.progress import track

    from denoise_jax.planning.report import table
    from denoise_jax.planning.sweep import plan_from_json

    known = {}
    if arguments.output.exists():
        known = {line["key"]: line["plan"] for line in map(json.loads, arguments.output.open())}
    wanted = [row for row in ROWS if arguments.only in f"{row[0]}, {row[2]}"]
    for label, *request in track(wanted, description="compiling"):
        key = json.dumps([label, *request])
        if key not in known:
            known[key] = made(*request)
            with arguments.output.open("a") as file:
                file.write(json.dumps({"key": key, "plan": known[key]}) + "\n")
    plans = [plan_from_json(json.dumps(known[json.dumps(list(row))])) for row in wanted]
    print(table(plans, [f"{label}, {rows} rows" for label, _, _, _, rows, _ in wanted]))


if __name__ == "__main__":
    main()
