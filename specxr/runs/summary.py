"""How far a run has come: the records of its blocks, added up as they arrive."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from specxr.runs import ledger
from specxr.runs.forecast import Forecast
from specxr.runs.ledger import BlockRecord
from specxr.runs.run import Run

# After this number of failed attempts without one success the fault cannot lie in the blocks themselves.
MAX_IN_A_ROW = 30


class RunStopped(RuntimeError):
    """Block after block failed, which happens where the store cannot be reached or an emulator is missing."""


@dataclass(frozen=True)
class Summary:
    """How far a run has come.

    Parameters
    ----------
    path : str
        Path of the cube.
    run : str
        Name of the run.
    n_stars : int
        Number of stars in the cube.
    n_done : int
        Number of stars with labels.
    n_fitted : int
        Number of stars that this call has fitted.
    seconds : float
        Time since this call submitted its first block [s].
    results : mapping of str to int
        Number of stars for each result code, by its lower-case name.
    quarantined : tuple of BlockRecord
        Blocks that failed three times; `BlockRecord.error` is the traceback.
    forecast : Forecast or None
        Forecast of this call; None where no block was left to fit.
    dashboard : str
        Address of the Dask dashboard.
    """

    path: str
    run: str
    n_stars: int
    n_done: int
    n_fitted: int = 0
    seconds: float = 0.0
    results: Mapping[str, int] = field(default_factory=dict)
    quarantined: tuple[BlockRecord, ...] = ()
    forecast: Forecast | None = None
    dashboard: str = ""

    @property
    def complete(self) -> bool:
        """Whether every star has its labels."""
        return self.n_done == self.n_stars

    def after(self, record: BlockRecord) -> Summary:
        """Summary after one more attempt at a block."""
        if record.state == ledger.QUARANTINED:
            return replace(self, quarantined=(*self.quarantined, record))
        if record.state != ledger.DONE:
            return self
        return replace(
            self,
            n_done=self.n_done + record.n_stars,
            n_fitted=self.n_fitted + record.n_stars,
            results=dict(Counter(self.results) + Counter(record.results)),
            forecast=self.forecast and self.forecast.timed(record),
        )


def summarise(
    run: Run, records: Iterable[BlockRecord], expected: Forecast | None = None, dashboard: str = ""
) -> Summary:
    """Add up what earlier calls of a run have done.

    Parameters
    ----------
    run : Run
        The run.
    records : iterable of BlockRecord
        Records of all its blocks.
    expected : Forecast, optional
        Forecast of this call.
    dashboard : str, optional
        Address of the Dask dashboard.
    """
    records = list(records)
    done = [record for record in records if record.state == ledger.DONE]
    results = sum((Counter(record.results) for record in done), Counter[str]())
    return Summary(
        run.path,
        run.name,
        n_stars=records[-1].star_stop,
        n_done=sum(record.n_stars for record in done),
        results=dict(results),
        forecast=expected,
        dashboard=dashboard,
    )


def follow(
    attempts: Iterable[BlockRecord], summary: Summary, progress: Callable[[Summary], None] | None = None
) -> Summary:
    """Add up attempts as they come, from `summary` on.

    Parameters
    ----------
    attempts : iterable of BlockRecord
        Records of the attempts in the order in which they end.
    summary : Summary
        How far the run has come before.
    progress : callable, optional
        Function that is called with a `Summary` at the start and after each attempt.

    Raises
    ------
    RunStopped
        Too many attempts in a row failed.
    """
    begin = time.time()
    n_workers = summary.forecast.n_workers if summary.forecast else 0
    allowed, in_a_row = max(MAX_IN_A_ROW, 2 * n_workers), 0
    if progress:
        progress(summary)
    for record in attempts:
        in_a_row = 0 if record.state == ledger.DONE else in_a_row + 1
        summary = replace(summary.after(record), seconds=time.time() - begin)
        if progress:
            progress(summary)
        if in_a_row == allowed:
            raise RunStopped(
                f"{in_a_row} attempts in a row failed, so that the fault does not lie in the blocks; the last one "
                f"failed with: {record.reason}. A store and an estimator that work are required. Correct the cause "
                "and call again: blocks that are done are kept, the others are tried again."
            )
    return summary
