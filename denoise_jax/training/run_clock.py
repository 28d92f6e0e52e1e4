"""How well a run uses its hardware: FLOPs per second, utilisation of the peak, and goodput."""

import time

from jax.sharding import Mesh

from denoise_jax.parallel.chips import chip_of
from denoise_jax.training.log_interval import LogInterval


class RunClock:
    """Args of the constructor:

    flops: model FLOPs of a step on all devices (`training_flops`).
    start: when the run began, or began again, by `time.perf_counter`.
    """

    def __init__(self, flops: float, mesh: Mesh, start: float):
        self.flops_per_device = flops / mesh.size
        self.chip = chip_of(mesh.devices.flat[0])
        self.start, self.training = start, 0.0

    def values(self, interval: LogInterval) -> dict[str, float]:
        """What is logged of an interval that ends now.

        `train/tflops`: model TFLOP per second and device. `train/mfu`: its share of the chip's peak, if that
        is known. `train/goodput`: share of the time since the start that was spent in train steps, and not on
        restoring, compiling, validating or saving.
        """
        seconds = interval.seconds()
        self.training += seconds
        rate = self.flops_per_device * interval.steps / seconds
        utilisation = {} if self.chip is None else {"train/mfu": rate / self.chip.flops}
        goodput = self.training / max(time.perf_counter() - self.start, seconds)
        return {"train/tflops": rate / 1e12, **utilisation, "train/goodput": goodput}
