"""A trace of a few steps, for xprof and TensorBoard."""

import re
from pathlib import Path

import jax

from denoise_jax.errors import UserError


def parse_steps(text: str) -> range:
    """The steps that "100:105" names: 100 to 104; UserError if it names none."""
    found = re.fullmatch(r"(?:steps=)?(\d+):(\d+)", text)
    if not found or int(found.group(1)) >= int(found.group(2)):
        raise UserError(f"profile {text!r}: give the first step and the one after the last, such as 100:105")
    return range(int(found.group(1)), int(found.group(2)))


class Profiler:
    """Traces `steps` of a run into `folder`; nothing if `steps` is None or the run starts after them."""

    def __init__(self, steps: range | None, folder: Path):
        self.steps, self.folder, self.running = steps, folder, False

    def before_step(self, step: int) -> None:
        """Starts or ends the trace; `step` is the number of updates done."""
        if self.running and step not in self.steps:
            self.close()
        elif not self.running and self.steps and step in self.steps:
            jax.profiler.start_trace(str(self.folder))
            self.running = True

    def close(self) -> None:
        """Ends a trace that has been started, and writes it."""
        if self.running:
            jax.profiler.stop_trace()
            self.running = False
