"""A run of two processes in a bucket under random faults, against the same run undisturbed.

    python benchmarks/soak.py [--faults 20] [--seed 0] [--pause 20]

Faults, in random order: a process killed (SIGKILL), SIGTERM to one process, the object store stopped for ten
seconds, and the object store's disk full. After each the run goes on, by itself or, where a user would have
to act, by the same command again. At the end every array of the two runs must be equal, bit for bit. Needs
root, for a small disk (tmpfs).
"""

import argparse
import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from configs import quickstart
from denoise_jax.config import Config
from denoise_jax.paths import to_path
from denoise_jax.runs.checkpoint import Checkpointer
from denoise_jax.vocabulary.training import train_sentencepiece
from tests.object_store import ObjectStore
from tests.tiny_corpus import speeches

DISK = 64  # MB
LAUNCH = [sys.executable, "-m", "launch.local", "--processes", "2", "--devices", "2"]
LAUNCH += ["--restarts", "1000", "--"]


def tiny(folder: Path, num_steps: int) -> Config:
    """A run of some minutes that saves every few seconds."""
    texts = [Path(file).read_text(encoding="utf-8") for file in speeches()["train"][-3:]]
    train_sentencepiece(texts, folder / "vocabulary", size=512, sentinels=24)
    model = {"embed_dim": 32, "num_heads": 4, "ffn_dim": 64, "num_encoder_layers": 1, "num_decoder_layers": 1}
    data = {"task": "tiny", "task_modules": ("tests.tiny_corpus",), "vocabulary": str(folder / "vocabulary")}
    data |= {"batch_size": 16, "input_length": 48, "target_length": 64, "chunk_length": 32, "shards": 4}
    training = {"num_steps": num_steps, "log_every": 10, "save_every": 20, "evaluate_every": 100}
    optimizer = {"warmup_steps": 2}
    return quickstart.config().replace(model=model, data=data, training=training, optimizer=optimizer)


class Soak:
    """The disturbed run, its object store, and what was done to them."""

    def __init__(self, command: list[str], store: ObjectStore, disk: Path, seed: int):
        self.command, self.store, self.disk = command, store, disk
        self.chance, self.done = random.Random(seed), collections.Counter()
        self.restarts = 0
        self.process = subprocess.Popen(command)

    def fault(self) -> None:
        """Does one thing at random."""
        faults = (self.kill, self.terminate, self.stop_store, self.fill_disk)
        fault = self.chance.choice(faults)
        self.done[fault.__doc__.rstrip(".")] += 1
        print(f"soak: {fault.__doc__}", flush=True)
        fault()

    def kill(self) -> None:
        """SIGKILL of a process."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM to a process."""
        self._signal(signal.SIGTERM)

    def stop_store(self) -> None:
        """The object store stopped for 10 s."""
        self.store.stop()
        time.sleep(10)
        self.store.start()

    def fill_disk(self) -> None:
        """The object store's disk full for 20 s."""
        filler = self.disk / "filler"
        try:
            with filler.open("wb") as file:
                while True:
                    file.write(bytes(1 << 20))
                    file.flush()
        except OSError:
            pass
        time.sleep(20)
        filler.unlink()

    def finished(self) -> bool:
        """Whether the run has ended well; starts it again if it has ended in any other way."""
        if self.process.poll() is None:
            return False
        listed = [sys.executable, "-m", "denoise_jax.cli.main", "runs", self.command[-1], "--json"]
        if self.process.returncode == 0 and '"finished"' in subprocess.check_output(listed, text=True):
            return True
        self.restarts += 1
        self.process = subprocess.Popen(self.command)
        return False

    def _signal(self, number: int) -> None:
        listed = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True)
        if children := listed.stdout.split():
            os.kill(int(self.chance.choice(children)), number)


def state_of(run) -> dict[str, np.ndarray]:
    """The arrays of the newest checkpoint, by name."""
    checkpoints = Checkpointer(run / "checkpoints", read_only=True)
    return checkpoints.verify(checkpoints.steps()[-1])


def main() -> None:
    """Prints what was done, and whether the results are equal; exits with 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, default=20, help="mean seconds between faults")
    parser.add_argument("--steps", type=int, default=800)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="denoise_jax-soak-"))
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "tmpfs", disk], check=True)
    try:
        equal, soak, seconds = _soak(folder, disk, arguments)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    table = Table("fault", "times")
    for name, times in soak.done.items():
        table.add_row(name, str(times))
    Console().print(table)
    result = "equal, bit for bit" if equal else "DIFFERENT"
    print(f"{sum(soak.done.values())} faults in {seconds:,.0f} s; {soak.restarts} restarts by hand; {result}")
    sys.exit(not equal)


def _soak(folder: Path, disk: Path, arguments: argparse.Namespace) -> tuple[bool, Soak, float]:
    file = folder / "config.json"
    file.write_text(tiny(folder, arguments.steps).model_dump_json())
    train = [*LAUNCH, "train", str(file), "--workdir"]
    subprocess.run([*train, str(folder / "undisturbed")], check=True)
    with ObjectStore(disk) as store:
        os.environ.update(store.environment)
        run = to_path(store.make_bucket("soak")) / "run"
        began = time.monotonic()
        soak = Soak([*train, str(run)], store, disk, arguments.seed)
        while True:
            time.sleep(soak.chance.uniform(0.5, 1.5) * arguments.pause)
            if soak.finished():
                break
            if sum(soak.done.values()) < arguments.faults:
                soak.fault()
        seconds = time.monotonic() - began
        first, second = state_of(folder / "undisturbed"), state_of(run)
    equal = jax.tree.all(jax.tree.map(np.array_equal, first, second))
    return equal, soak, seconds


if __name__ == "__main__":
    main()
