"""Progress on the terminal, with rate and time left."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as RichTask
from rich.text import Text


class _Rate(ProgressColumn):
    """Number of stars or files per second."""

    def __init__(self, unit: str):
        super().__init__()
        self.unit = unit

    def render(self, task: RichTask) -> Text:
        speed = task.finished_speed or task.speed
        return Text(
            f"{speed:,.0f} {self.unit}/s" if speed else f"- {self.unit}/s", style="progress.data.speed"
        )


@contextmanager
def progress_bar(title: str, unit: str, total: int | None = None) -> Iterator[tuple[Progress, Any]]:
    """Show a bar on stderr; yields the bar and the number of its task, which its `update` and `advance` require."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(unit),
        TimeRemainingColumn(elapsed_when_finished=True), TextColumn("{task.fields[tally]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        try:
            yield progress, progress.add_task(title, total=total, tally="")
        except BaseException:
            # The error is printed as one line, without a bar that has stopped.
            progress.live.transient = True
            progress.console.quiet = not progress.console.is_terminal
            raise


class RunProgress:
    """What ``specxr.run`` calls with each summary, to show how far it has come.

    Parameters
    ----------
    bar : Progress
        Bar on the terminal.
    task : int
        Its task.

    Attributes
    ----------
    begun : bool
        Whether the labels and the ledger of the run are there.
    """

    def __init__(self, bar: Progress, task: Any):
        self._bar, self._task = bar, task
        self.begun = self._timed = False

    def __call__(self, summary: Any) -> None:
        """Show a summary."""
        bar, expected = self._bar, summary.forecast
        if not self.begun:
            self.begun = True
            if summary.dashboard:
                self.say(f"dashboard: {summary.dashboard}")
            self.say(str(expected))
            bar.reset(self._task, total=summary.n_stars, completed=summary.n_done, visible=True)
        elif expected.seconds is not None and not self._timed:
            self._timed = True
            self.say(f"from the first block: {expected}")
        bar.update(self._task, completed=summary.n_done, tally=tally(summary.results))

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def run_progress() -> Iterator[RunProgress]:
    """Show how far a bulk run has come, and what it says of itself; yields what ``specxr.run`` calls."""
    logger = logging.getLogger("specxr.runs")
    level = logger.level
    with progress_bar("fitting", "stars") as (bar, task), _quiet("distributed", "distributed.client"):
        bar.update(task, visible=False)
        progress = RunProgress(bar, task)
        handler = logging.Handler()
        handler.emit = lambda record: progress.say(record.getMessage())  # type: ignore[method-assign]
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield progress
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Keep what Dask logs off the terminal: what matters of it is in the messages of the run, or in its ledger."""
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def tally(results: Mapping[str, int]) -> str:
    """Number of stars for each result code, in the order of the codes."""
    from specxr.vocabulary import Result

    names = [result.name.lower() for result in Result]
    return ", ".join(f"{results[name]:,} {name}" for name in names if results.get(name))


class Counted:
    """An estimator that reports how many stars it has fitted.

    Parameters
    ----------
    estimator : Estimator
        Estimator that fits the stars.
    advance : callable
        Function that is called with the number of stars of each block.
    """

    def __init__(self, estimator: Any, advance: Callable[[int], None]):
        self._estimator, self._advance = estimator, advance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._estimator, name)

    def __dask_tokenize__(self) -> str:
        return str(self._estimator.fingerprint)

    def estimate(self, block: Any, spectra: bool = False) -> dict[str, NDArray[Any]]:
        """Fit a block, and report the number of its stars."""
        labels: dict[str, NDArray[Any]] = self._estimator.estimate(block, spectra)
        self._advance(len(block.flux))
        return labels
