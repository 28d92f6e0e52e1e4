"""The loss curve of a run as a picture."""

from pathlib import Path

from denoise_jax.runs.run_folder import PLOTS
from denoise_jax.training.writers import JSONL, read_lines

# What is drawn of a validation, as far as it was measured: name, what it is called, colour.
_ACCURACIES = (
    ("visible_accuracy", "visible tokens", "C2"),
    ("hidden_accuracy", "hidden tokens", "C1"),
    ("accuracy", "classes", "C1"),
    ("baseline_accuracy", "most frequent token or class", "0.5"),
)


def plot_loss(folder: Path, title: str) -> Path | None:
    """Draws metrics.jsonl of the run in `folder` to plots/loss.png; None if nothing was logged."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = read_lines(folder / JSONL)
    curves = {
        "training, all tokens": _series(lines, "train/loss"),
        "training, hidden tokens": _series(lines, "train/hidden_loss"),
        "validation, all tokens": _series(lines, "validation/loss"),
        "validation, hidden tokens": _series(lines, "validation/hidden_loss"),
    }
    for part in ("training", "validation"):  # where every target is hidden, as in fine-tuning, once is enough
        if curves[f"{part}, hidden tokens"] == curves[f"{part}, all tokens"]:
            del curves[f"{part}, hidden tokens"]
    curves = {label: (steps, values) for label, (steps, values) in curves.items() if steps}
    if not curves:
        return None
    figure, (losses, accuracies) = pyplot.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True)
    for label, (steps, values) in curves.items():
        colour = "C1" if "hidden" in label else "C0"
        style = (
            {"marker": "o", "markersize": 4, "linewidth": 0.8} if "validation" in label else {"alpha": 0.6}
        )
        losses.plot(steps, values, color=colour, label=label, **style)
    losses.set(xlabel="step", ylabel="loss, nats per target", title=title)
    for name, label, colour in _ACCURACIES:
        steps, values = _series(lines, f"validation/{name}")
        if steps:
            accuracies.plot(steps, values, "o-", markersize=4, color=colour, label=label)
    accuracies.set(xlabel="step", ylabel="accuracy", title="validation", ylim=(0, 1))
    for axes in (losses, accuracies):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    file = folder / PLOTS / "loss.png"
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
    return file


def _series(lines: list[dict], name: str) -> tuple[list[int], list[float]]:
    points = [(line["step"], line[name]) for line in lines if name in line]
    return [step for step, _ in points], [value for _, value in points]
