"""Progress of a run on the console: a bar in a terminal, log lines elsewhere."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class RunProgress:
    """Progress through the steps of a run, as a context manager; silent on a quiet console."""

    def __init__(self, console: Console, first_step: int, num_steps: int):
        self._console = console
        self._num_steps = num_steps
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=console.quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=num_steps, completed=first_step, metrics="")

    def __enter__(self) -> "RunProgress":
        self._bar.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        self._bar.__exit__(*exception)

    def advance(self, step: int) -> None:
        """Moves the bar to `step`."""
        self._bar.update(self._task, completed=step)

    def show_metrics(self, step: int, values: dict[str, float]) -> None:
        """Shows the values just logged (see `LogInterval.values`)."""
        text = (
            f"loss {values['train/loss']:.3f}  hidden {values['train/hidden_loss']:.3f}  "
            f"{values['train/tokens_per_second']:,.0f} tok/s  data wait {values['train/data_wait']:.0%}"
        )
        self._bar.update(self._task, metrics=text)
        if not self._console.is_terminal:
            self.say(f"step {step:>{len(str(self._num_steps))}}/{self._num_steps}  {text}")

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        self._console.print(line, highlight=False, soft_wrap=True)
