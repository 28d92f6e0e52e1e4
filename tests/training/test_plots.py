"""The picture of a run: one curve for each series, none twice."""

import json

from matplotlib.figure import Figure

from denoise_jax.training.plots import plot_metrics


def _write(folder, lines):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _labels(monkeypatch, folder, config) -> list[set[str]]:
    """The labels of the curves in each panel."""
    figures, savefig = [], Figure.savefig

    def save(figure, *arguments, **options):
        figures.append(figure)
        savefig(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", save)
    picture = plot_metrics(folder, config)
    assert picture.read_bytes().startswith(b"\x89PNG")
    return [{line.get_label() for line in axes.lines} for axes in figures[0].axes]


def test_nothing_is_drawn_of_a_run_that_logged_nothing(tmp_path, tiny_config):
    assert plot_metrics(tmp_path, tiny_config) is None


def test_training_and_validation_are_drawn(tmp_path, tiny_config, monkeypatch):
    train = [{"step": n, "train/loss": 9.0 / n, "train/hidden_loss": 10.0 / n} for n in (1, 2)]
    validation = {"step": 2, "validation/loss": 3.0, "validation/hidden_loss": 4.0}
    validation |= {"validation/visible_accuracy": 0.9, "validation/hidden_accuracy": 0.2}
    _write(tmp_path, [*train, validation])
    losses, accuracies = _labels(monkeypatch, tmp_path, tiny_config)
    expected = {f"{part}, {name}" for part in ("training", "validation") for name in ("loss", "hidden loss")}
    assert losses == expected
    assert accuracies == {"visible accuracy", "hidden accuracy"}


def test_a_hidden_loss_equal_to_the_loss_is_drawn_once(tmp_path, tiny_config, monkeypatch):
    _write(tmp_path, [{"step": 1, "train/loss": 9.0, "train/hidden_loss": 9.0}])
    assert _labels(monkeypatch, tmp_path, tiny_config) == [{"training, loss"}, set()]
