"""Bulk runs: every block of a cube fitted on a Dask cluster, in an order that survives anything.

The order of reading, fitting and writing is described in docs/design/runs.md.
"""

from __future__ import annotations

import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any, TypedDict, Unpack

from distributed import Client
from numpy.typing import ArrayLike

from specxr.cubes.labels import check_aligned
from specxr.cubes.locations import readable, reported
from specxr.cubes.lock import Lock, check_free, hold
from specxr.cubes.processes import check_limits, cores
from specxr.cubes.schema import grid_of
from specxr.cubes.store import open_cube
from specxr.estimators.base import Estimator
from specxr.inference import check_estimator, check_inputs, declare
from specxr.runs import cluster, ledger
from specxr.runs.capacity import TICK_SECONDS, wait_for_workers
from specxr.runs.forecast import forecast
from specxr.runs.ledger import BlockRecord
from specxr.runs.places import Here, OnCluster, Place
from specxr.runs.plan import Plan, plan
from specxr.runs.run import Run
from specxr.runs.summary import Summary, follow, summarise
from specxr.runs.worker import Task

MAX_ATTEMPTS = 3
STARS_HERE = 2000  # so few stars are fitted in the time that worker processes need to start
MAX_PICKLE = 100_000  # bytes of an estimator, which travels with every task
_ANSWER_SECONDS = 5.0  # to fetch the answer of a block that is done


class RunSettings(TypedDict, total=False):
    """What `run` fits beside the estimator's own options, and what it writes; see there."""

    start: str | None
    stars: ArrayLike | None
    spectra: bool


def run(
    store: str | os.PathLike[str],
    estimator: Estimator,
    *,
    name: str,
    client: Client | None = None,
    overwrite: bool = False,
    progress: Callable[[Summary], None] | None = None,
    **what: Unpack[RunSettings],
) -> Summary:
    """Fit the stars of a cube and write the labels beside them, block by block; call again to continue.

    Blocks are the chunks (shards) of the cube. A ledger beside the labels records what is done, so that nothing is
    fitted twice, whatever was killed. A block that fails three times is put in quarantine; the others go on.

    Parameters
    ----------
    store : path-like
        Path or URL of the cube, which is the same for all workers.
    estimator : Estimator
        Estimator of the labels, for example ``specxr.LASP()``. It travels with each task, so that its emulator is
        opened from a file and is not made in this process.
    name : str
        Name of the run; ``specxr.open_labels(store, name)`` opens its labels.
    client : distributed.Client, optional
        Client of the cluster whose workers fit. Without it, up to 2,000 stars are fitted in this process. For more,
        one process for each core of this machine is started (`specxr.cluster.local`); a script then calls this under
        ``if __name__ == "__main__":``.
    overwrite : bool, optional
        Whether a run of this name is replaced; it is removed when the new one starts.
    progress : callable, optional
        Function that is called with a `Summary` at the start and after each block.
    start : str, optional
        Name of another run of this cube, whose Teff, logg and [Fe/H] the fits start from.
    stars : array_like, optional
        The stars to fit: a boolean for each star of the cube, such as ``cube["snr_g"] > 10``, or obsids. The others
        have no labels, and their result is ``not_fitted``. Without it, all stars are fitted.
    spectra : bool, optional
        Whether the model spectra are written as well: ``model(star, wavelength)`` and ``used``. They are as large as
        the cube.

    Returns
    -------
    Summary
        How far the run has come.

    Raises
    ------
    ValueError
        The cube is not valid; the estimator cannot work on it; the run was begun with something else; or it does not
        fit into memory or onto the disk. Nothing is fitted then.
    FileExistsError
        There are labels of this name that no run made.
    BlockingIOError
        Another process writes this run, or the stars of the cube.
    OSError
        The limits of this process (``ulimit``) leave no room for its libraries, or the disk is full.
    TimeoutError
        The cluster has no workers, and none came within 60 s, or within ``specxr.wait`` of the configuration of Dask:
        ``dask.config.set({"specxr.wait": "1 h"})``.
    RunStopped
        Block after block failed.
    """
    check_limits()
    this = Run.at(store, name)
    cube = open_cube(this.path)
    check_estimator(estimator)
    estimator.check(grid_of(cube))
    check_inputs(cube, estimator, what.get("start") is not None)
    _check_travels(estimator)
    check_free(this.path, "stars")
    with hold(this.path, this.lock) as lock:
        with readable(this.path):
            planned = plan(this, cube, estimator, overwrite=overwrite, **what)
        waiting = planned.waiting
        if not waiting:
            return _finish(this, summarise(this, planned.records))
        with _place(client, estimator, waiting, lock) as place:
            labels = declare(cube, estimator, planned.header.spectra)
            offer = place.offer()
            expected = forecast(this.path, cube, labels, waiting, offer)
            with reported(this.path):
                if planned.begins:
                    this.begin(planned.header, labels)
                else:
                    this.grow(planned.header, planned.lost)
            check_aligned(this.labels, planned.header.stars_per_block)
            summary = summarise(this, planned.records, expected, offer.dashboard)
            with closing(_fit(place, _tasks(this, planned), lock)) as attempts:
                summary = follow(attempts, summary, progress)
        return _finish(this, summary)


@contextmanager
def _place(
    client: Client | None, estimator: Estimator, waiting: Sequence[BlockRecord], lock: Lock
) -> Iterator[Place]:
    """Where blocks are fitted: on the cluster that is given, in this process, or on a cluster of this machine."""
    slots = min(cores(), len(waiting))
    if client is None and sum(block.n_stars for block in waiting) <= STARS_HERE:
        yield Here(1 if estimator.device.startswith("cuda") else slots, estimator)
        return
    with nullcontext(client) if client else cluster.local(slots) as workers:
        wait_for_workers(workers, estimator, lock)
        yield OnCluster(workers, estimator)


def _tasks(run: Run, planned: Plan) -> list[Task]:
    header, chosen = planned.header, planned.chosen
    return [
        Task(
            run,
            header.token,
            header.grid_fingerprint,
            record,
            header.start,
            header.spectra,
            None if chosen is None else chosen[record.star_start : record.star_stop].tobytes(),
        )
        for record in planned.waiting
    ]


def _fit(place: Place, tasks: Sequence[Task], lock: Lock) -> Generator[BlockRecord, None, None]:
    """Yield the record of each attempt when it ends; a block that failed comes again.

    As many blocks are under way as the place fits at a time. Because no block waits behind another, a worker that dies
    takes no block with it that is not at fault, and the client holds few futures whatever the number of blocks. The
    first of many blocks has the place to itself, for the forecast.
    """
    waiting = deque(tasks)
    running: dict[tuple[int, int], tuple[Any, Task]] = {}
    finished: SimpleQueue[tuple[int, int]] = SimpleQueue()
    timed = len(tasks) <= place.slots()
    try:
        while waiting or running:
            slots = place.slots() if timed else min(place.slots(), 1)
            while waiting and len(running) < slots:
                task = waiting.popleft()
                attempt = task.record.index, task.record.attempts
                running[attempt] = place.submit(task), task
                _tell_when_done(*running[attempt], finished)
            lock.beat()
            try:
                attempt = finished.get(timeout=TICK_SECONDS)
            except Empty:
                continue
            future, task = running[attempt]
            try:
                record = _record_of(future, task)
            except TimeoutError:
                # The worker left with the answer. The scheduler has the block fitted again, and will say so.
                _tell_when_done(future, task, finished)
                continue
            del running[attempt]
            if record.state == ledger.FAILED:
                waiting.append(replace(task, record=record))
                place.forget()  # the threads of a worker that died are not there any more
            timed = True
            yield record
    finally:
        place.cancel([future for future, _ in running.values()])


def _tell_when_done(future: Any, task: Task, finished: SimpleQueue[tuple[int, int]]) -> None:
    attempt = task.record.index, task.record.attempts
    future.add_done_callback(lambda _: finished.put(attempt))


def _record_of(future: Any, task: Task) -> BlockRecord:
    """Record of an attempt; the driver writes the records of those that failed.

    Raises
    ------
    TimeoutError
        The answer, which is a kilobyte, does not arrive: it was lost with the worker that held it.
    """
    if future.cancelled():
        raise ConnectionError(
            f"the scheduler gave up block {task.record.index} of {task.run}, because it was restarted or its "
            "connection was lost; a scheduler that stays is required. Call again: blocks that are done are kept."
        )
    error = future.exception(timeout=_ANSWER_SECONDS)
    if error is None:
        record: BlockRecord = future.result(timeout=_ANSWER_SECONDS)
    else:  # the worker died, or the task could not be unpickled
        record = replace(
            task.record,
            state=ledger.FAILED,
            attempts=task.record.attempts + 1,
            finished=time.time(),
            error=repr(error),
        )
    if record.state == ledger.DONE:
        return record
    if record.attempts >= MAX_ATTEMPTS:
        record = replace(record, state=ledger.QUARANTINED)
    try:
        task.run.write_record(record)
    except OSError as problem:
        raise OSError(
            f"the ledger of {task.run} cannot be written ({problem}); a store with room and permission to write is "
            "required. Correct that and call again: blocks that are done are kept. The block that was to be recorded "
            f"failed with: {record.reason}"
        ) from problem
    return record


def _finish(run: Run, summary: Summary) -> Summary:
    if summary.complete:
        with reported(run.path):
            run.complete()
    return summary


def _check_travels(estimator: Estimator) -> None:
    size = len(pickle.dumps(estimator))
    if size > MAX_PICKLE:
        raise ValueError(
            f"the estimator is {size / 1e6:.1f} MB when it travels to a worker, which it does with every block; at "
            f"most {MAX_PICKLE / 1e6:g} MB are required. Save its weights to a file and open them from there: what was "
            "opened from a file travels as its path and its hash."
        )
