"""Progress is lines where there is no terminal, and nothing on a quiet console."""

import io

from rich.console import Console

from denoise_jax.training.progress import RunProgress

VALUES = {"train/loss": 2.5, "train/hidden_loss": 5.25, "train/tokens_per_second": 12345.0}
VALUES |= {"train/data_wait": 0.25}


def test_lines_without_a_terminal():
    console = Console(file=io.StringIO(), width=200)
    with RunProgress(console, 0, 100) as progress:
        progress.advance(5)
        progress.show_metrics(5, VALUES)
        progress.say("step 5: validation loss 3.000")
    assert console.file.getvalue() == (
        "step   5/100  loss 2.500  hidden 5.250  12,345 tok/s  data wait 25%\nstep 5: validation loss 3.000\n"
    )


def test_a_terminal_shows_a_bar():
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    with RunProgress(console, 0, 100) as progress:
        progress.advance(50)
        progress.show_metrics(50, VALUES)
    assert "50/100" in console.file.getvalue() and "loss 2.500" in console.file.getvalue()


def test_a_quiet_console_shows_nothing():
    console = Console(file=io.StringIO(), quiet=True)
    with RunProgress(console, 0, 100) as progress:
        progress.show_metrics(5, VALUES)
    assert console.file.getvalue() == ""
