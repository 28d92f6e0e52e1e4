"""Trying many plans, each in a process of its own, and choosing the fastest that fits."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pydantic

from denoise_jax.config import Config
from denoise_jax.errors import ConfigError
from denoise_jax.planning.plan import Plan, plan
from denoise_jax.planning.topologies import topology_devices

ROWS = (4, 8, 16, 32, 64)  # per chip and microbatch
FSDP = (1, 4, 16)
LAYERS = (("none", False), ("dots", True), ("attention", True), ("full", True))  # (remat, scan_layers)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to compute the same optimizer step."""

    rows: int
    fsdp: int
    remat: str
    scan_layers: bool

    def label(self) -> str:
        """Such as "8 rows, fsdp 1, unrolled, remat none"."""
        layers = "scanned" if self.scan_layers else "unrolled"
        return f"{self.rows} rows, fsdp {self.fsdp}, {layers}, remat {self.remat}"

    def config(self, config: Config, chips: int) -> Config:
        """`config` computed this way; the batch and the results stay the same up to rounding."""
        return config.replace(
            model={"remat": self.remat, "scan_layers": self.scan_layers},
            parallel={"data": -1, "fsdp": self.fsdp},
            training={"accumulation_steps": config.data.batch_size // (self.rows * chips)},
        )


def candidates(config: Config, topology: str, slices: int = 1) -> list[Candidate]:
    """What `sweep` tries: the batch is split into microbatches of 4 to 64 rows per chip."""
    per_slice = len(topology_devices(topology))
    chips = per_slice * slices
    rows = [rows for rows in ROWS if config.data.batch_size % (rows * chips) == 0]
    if not rows:
        raise ConfigError(
            f"data.batch_size={config.data.batch_size} cannot be split into {', '.join(map(str, ROWS))} rows "
            f"for each of {chips} chips; use a multiple of {ROWS[0] * chips}"
        )
    fsdp = [size for size in FSDP if size <= per_slice]
    return [Candidate(r, f, *layers) for layers in LAYERS for f in fsdp for r in rows]


def sweep(
    config: Config,
    topology: str,
    results: Path,
    *,
    slices: int = 1,
    report: Callable[[Candidate, Plan], None] = lambda candidate, plan: None,
) -> list[tuple[Candidate, Plan]]:
    """All candidates with their plans, fastest first; those that do not fit last.

    Each takes minutes. A result is appended to the JSON Lines file `results` at once, and what is in it
    already is not computed again. Once some rows do not fit, more rows are not tried.
    """
    known = dict(_read(results, config, topology, slices))
    found: dict[Candidate, Plan] = {}
    for candidate in candidates(config, topology, slices):
        smaller = dataclasses.replace(candidate, rows=candidate.rows // 2)
        if smaller in found and not found[smaller].fits:
            found[candidate] = found[smaller]
            continue
        if candidate not in known:
            known[candidate] = _in_child(config, candidate, topology, slices)
            _append(results, config, topology, slices, candidate, known[candidate])
        found[candidate] = known[candidate]
        report(candidate, found[candidate])
    fitting = [(candidate, plan) for candidate, plan in found.items() if plan.fits]
    others = [(candidate, plan) for candidate, plan in found.items() if not plan.fits]
    return sorted(fitting, key=lambda pair: -pair[1].tokens_per_second) + others


def _in_child(config: Config, candidate: Candidate, topology: str, slices: int) -> Plan:
    """A plan made in another process: the compiler ends a process now and then, and keeps its memory."""
    request = {
        "config": config.model_dump_json(),
        "candidate": dataclasses.asdict(candidate),
        "topology": topology,
        "slices": slices,
    }
    result = subprocess.run(
        [sys.executable, "-m", "denoise_jax.planning.sweep"],
        input=json.dumps(request),
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
        raise ConfigError(f"{candidate.label()}: {reason[:300]}")
    return plan_from_json(result.stdout.splitlines()[-1])


def plan_from_json(text: str) -> Plan:
    """The plan that `dataclasses.asdict` and `json.dumps` wrote."""
    return pydantic.TypeAdapter(Plan).validate_json(text)


def _key(config: Config, topology: str, slices: int) -> str:
    return json.dumps([config.model_dump(mode="json"), topology, slices], sort_keys=True)


def _read(path: Path, config: Config, topology: str, slices: int) -> Iterator[tuple[Candidate, Plan]]:
    for line in path.read_text().splitlines() if path.exists() else ():
        values = json.loads(line)
        if values["key"] == _key(config, topology, slices):
            yield Candidate(**values["candidate"]), plan_from_json(json.dumps(values["plan"]))


def _append(path: Path, config: Config, topology: str, slices: int, candidate: Candidate, plan: Plan) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {"key": _key(config, topology, slices), "candidate": dataclasses.asdict(candidate)}
    with path.open("a") as file:
        file.write(json.dumps({**line, "plan": dataclasses.asdict(plan)}) + "\n")


def _child() -> None:
    request = json.load(sys.stdin)
    config, topology, slices = (
        Config.model_validate_json(request["config"]),
        request["topology"],
        request["slices"],
    )
    chips = len(topology_devices(topology)) * slices
    candidate = Candidate(**request["candidate"])
    print(json.dumps(dataclasses.asdict(plan(candidate.config(config, chips), topology, slices=slices))))


if __name__ == "__main__":
    _child()
