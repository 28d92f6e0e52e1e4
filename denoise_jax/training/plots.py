"""Loss and accuracy curves of a run, as a picture."""

from pathlib import Path

from denoise_jax.config import Config
from denoise_jax.evaluation.metrics import metrics_for
from denoise_jax.runs.run_folder import PLOTS
from denoise_jax.training.writers import JSONL, read_lines

LOSS = "loss.png"

Series = tuple[list[int], list[float]]  # steps, values


def plot_metrics(folder: Path, config: Config) -> Path | None:
    """Draws the metrics.jsonl of the run in `folder` to plots/loss.png; None if nothing was logged."""
    from matplotlib.figure import Figure  # unlike pyplot, it leaves a notebook's backend alone

    lines = read_lines(folder / JSONL)
    if not any("train/loss" in line or "validation/loss" in line for line in lines):
        return None
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    seen: list[Series] = []
    for scalar in (
        scalar for metric in metrics_for(config.model) for scalar in metric.scalars if scalar.axes
    ):
        axes = losses if scalar.axes == "loss" else accuracies
        training, validation = (_series(lines, f"{part}/{scalar.key}") for part in ("train", "validation"))
        if training[0] and training not in seen:  # all tokens may be hidden, as in fine-tuning: one curve
            axes.plot(*training, color=scalar.colour, alpha=0.6, label=f"training, {scalar.label}")
        if validation[0] and validation not in seen:
            label = f"validation, {scalar.label}" if axes is losses else scalar.label
            style = {"marker": "o", "markersize": 4, "linewidth": 0.8}
            axes.plot(*validation, color=scalar.colour, label=label, **style)
        seen += [training, validation]
    losses.set(xlabel="step", ylabel="loss, nats per target", title=config.name)
    accuracies.set(xlabel="step", ylabel="accuracy", title="validation", ylim=(0, 1))
    for axes in (losses, accuracies):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    file = folder / PLOTS / LOSS
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=110)
    return file


def _series(lines: list[dict], name: str) -> Series:
    points = [(line["step"], line[name]) for line in lines if name in line]
    return [step for step, _ in points], [value for _, value in points]
