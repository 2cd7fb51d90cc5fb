"""Progress on the terminal, with rate and time left."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import typer
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

_LOG = logging.getLogger("specxr.cli")


_shown = True


def show_bars(shown: bool) -> None:
    """Say whether progress and notes are shown at all; ``specxr --quiet`` shows none."""
    global _shown
    _shown = shown


def note(text: str) -> None:
    """Print what is neither a result nor an error; ``specxr --quiet`` leaves it out."""
    if _shown:
        typer.echo(text)


class _Rate(ProgressColumn):
    """Number of stars or files per second."""

    def __init__(self, unit: str):
        super().__init__()
        self.unit = unit

    def render(self, task: RichTask) -> Text:
        # Of the whole command: blocks end in bursts, and the rate of the last one says little. A run that goes on has
        # stars that were done before.
        done, elapsed = task.completed - task.fields["before"], task.finished_time or task.elapsed
        rate = f"{done / elapsed:,.3g}" if elapsed and done else "-"
        return Text(f"{rate} {self.unit}/s", style="progress.data.speed")


@contextmanager
def progress_bar(title: str, unit: str, total: int | None = None) -> Iterator[tuple[Progress, Any]]:
    """Show a bar on stderr; yields the bar and the number of its task, which its `update` and `advance` require."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(unit),
        TimeRemainingColumn(elapsed_when_finished=True), TextColumn("{task.fields[tally]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True, quiet=not _shown)) as progress:
        try:
            yield progress, progress.add_task(title, total=total, tally="", before=0)
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
            if summary.dashboard and find_spec("bokeh"):  # without it, the page says only that it is missing
                self.say(f"dashboard: {summary.dashboard}")
            self.say(str(expected))
            bar.reset(
                self._task,
                total=summary.n_stars,
                completed=summary.n_done,
                visible=True,
                before=summary.n_done,
                tally="",
            )
        elif expected.seconds is not None and not self._timed:
            self._timed = True
            self.say(f"from the first block: {expected}")
        bar.update(self._task, completed=summary.n_done, tally=tally(summary.results))

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
        _LOG.info("%s", line)


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
        handler.setLevel(logging.INFO)
        logger.addHandler(handler)
        logger.setLevel(min(logging.INFO, logger.getEffectiveLevel()))
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
