"""Bulk runs: every block of a cube fitted on a Dask cluster, in an order that survives anything (docs/running.md)."""

from __future__ import annotations

import math
import os
import pickle
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from distributed import Client, Future

from specxr.cubes.labels import check_aligned, declare_labels, open_labels_group, resize_labels
from specxr.cubes.lock import BEAT_SECONDS, Lock, check_free, hold
from specxr.cubes.schema import grid_of
from specxr.cubes.store import check_run_name, open_cube
from specxr.estimators.base import Estimator
from specxr.inference import check_inputs, declare
from specxr.runs import cluster, ledger
from specxr.runs.forecast import Forecast, forecast
from specxr.runs.ledger import BlockRecord
from specxr.runs.plan import plan
from specxr.runs.worker import Task, run_task

MAX_ATTEMPTS = 3
# So many attempts that failed, and no block done between them: the fault is not in the blocks.
MAX_IN_A_ROW = 30
MAX_PICKLE = 100_000  # bytes of an estimator, which travels with every task
_TICK_SECONDS = 1.0
_ANSWER_SECONDS = 5.0  # to fetch the answer of a block that is done


class RunStopped(RuntimeError):
    """Block after block failed, as they do where a store is away or an emulator is missing."""


@dataclass(frozen=True)
class Summary:
    """How far a run has come.

    Parameters
    ----------
    path, run : str
    n_stars : int
        In the cube.
    n_done : int
        Stars with labels.
    n_fitted : int
        Of them, those fitted by this call.
    seconds : float
        Since the first block of this call was begun.
    results : mapping of str to int
        Stars for each result code.
    quarantined : tuple of BlockRecord
        Blocks that failed three times; `BlockRecord.error` says how.
    forecast : Forecast or None
        None where nothing was left to be fitted.
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


def run(
    store: str | os.PathLike[str],
    estimator: Estimator,
    *,
    name: str,
    start: str | None = None,
    spectra: bool = False,
    client: Client | None = None,
    overwrite: bool = False,
    wait: float = 60.0,
    progress: Callable[[Summary], None] | None = None,
) -> Summary:
    """Fit all stars of a cube and write the labels beside them, block by block; call again to continue.

    Blocks are the chunks (shards) of the cube. What is done is kept in a ledger beside the labels, so that nothing
    is fitted twice, whatever was killed. A block that fails three times is put aside; the others go on.

    Parameters
    ----------
    store : path-like
        The cube, which all workers see at the same path.
    estimator : Estimator
        For example ``specxr.LASP()``. It travels with each task: emulators are opened from files, not made.
    name : str
        Of the run; ``specxr.open_labels(store, name)`` opens its labels.
    start : str, optional
        Another run of this cube, whose Teff, logg and [Fe/H] the fits begin with.
    spectra : bool, optional
        Write the model spectra as well: ``model(star, wavelength)`` in units of the observed flux, and ``used``, 1
        where a pixel was used. They are as large as the cube.
    client : distributed.Client, optional
        Whose workers fit; by default processes of this machine, one a core (`specxr.cluster.local`). A script then
        calls this under ``if __name__ == "__main__":``.
    overwrite : bool, optional
        Replace a run of this name, which is removed when the new one starts.
    wait : float, optional
        How long to wait for workers where there are none [s].
    progress : callable, optional
        Called with a `Summary` at the start and after each block.

    Returns
    -------
    Summary

    Raises
    ------
    ValueError
        The cube is not valid; the estimator cannot work on it; the run was begun with something else; or it does not
        fit into memory or onto the disk. Nothing is fitted then.
    FileExistsError
        There are labels of this name that no run made.
    BlockingIOError
        Another process writes this run, or the stars of the cube.
    TimeoutError
        The cluster has no workers.
    RunStopped
        Block after block failed.
    """
    path = os.fspath(store)
    path = path if "://" in path else os.path.abspath(path)
    check_run_name(name)
    cube = open_cube(path)
    estimator.check(grid_of(cube))
    check_inputs(cube, estimator, start is not None)
    _check_travels(estimator)
    check_free(path, "stars")
    with hold(path, f"run-{name}") as lock:
        header, records, fresh = plan(path, name, cube, estimator, start, spectra, overwrite)
        waiting = [record for record in records if record.state != ledger.DONE]
        if not waiting:
            return _finish(path, name, _summary(path, name, records))
        with nullcontext(client) if client else cluster.local(min(cluster.cores(), len(waiting))) as client:
            _wait_for_workers(client, estimator, lock, wait)
            expected = forecast(path, declare(cube, estimator, spectra), cube, waiting, client)
            if fresh:
                declare_labels(
                    path, name, declare(cube, estimator, spectra), header.n_stars, header.stars_per_block
                )
                ledger.create(path, name, header)
            else:
                resize_labels(path, name, header.n_stars)
                ledger.grow(path, name, header)
            check_aligned(open_labels_group(path, name), header.stars_per_block)
            tasks = [
                Task(path, name, header.token, header.grid_fingerprint, r, start, spectra) for r in waiting
            ]
            summary = _summary(path, name, records, expected, client.dashboard_link)
            with closing(_fit(client, tasks, estimator, lock, wait)) as attempts:
                summary = _follow(attempts, summary, progress)
        return _finish(path, name, summary)


def _fit(
    client: Client, tasks: Iterable[Task], estimator: Estimator, lock: Lock, wait: float
) -> Generator[BlockRecord, None, None]:
    """Yield the record of each block as it is known; a block that failed comes again.

    As many blocks are under way as the workers have threads: with none queued behind another, a worker that dies
    takes no block with it that is not at fault, and the client holds a handful of futures whatever the number of
    blocks. The first block has the cluster to itself, for the forecast.
    """
    waiting = deque(tasks)
    running: dict[Any, tuple[Future, Task]] = {}
    finished: SimpleQueue[Future] = SimpleQueue()
    threads = _Threads(client, wait)
    timed = False
    prefix = f"specxr-{type(estimator).__name__.lower()}-{uuid4().hex[:8]}"
    resources = _resources(estimator)
    try:
        while waiting or running:
            slots = threads.count() if timed else min(threads.count(), 1)
            while waiting and len(running) < slots:
                task = waiting.popleft()
                key = (prefix, task.record.index, task.record.attempts)
                future = client.submit(run_task, task, estimator, key=key, pure=False, resources=resources)
                running[key] = future, task
                future.add_done_callback(finished.put)
            lock.beat()
            try:
                future = finished.get(timeout=_TICK_SECONDS)
            except Empty:
                continue
            _, task = running[future.key]
            try:
                record = _record_of(future, task)
            except TimeoutError:
                # The worker left with the answer: the scheduler has the block fitted again, and will say so.
                future.add_done_callback(finished.put)
                continue
            del running[future.key]
            if record.state == ledger.FAILED:
                waiting.append(replace(task, record=record))
                threads.forget()  # those of a worker that died must not be counted on
            timed = True
            yield record
    finally:
        client.cancel([future for future, _ in running.values()])


def _record_of(future: Future, task: Task) -> BlockRecord:
    """What became of an attempt; the driver writes down those that failed.

    Raises
    ------
    TimeoutError
        The answer, a kilobyte, is not to be had: it went with the worker that held it.
    """
    if future.cancelled():
        raise ConnectionError(
            f"the scheduler gave up block {task.record.index} of run '{task.run}': it was restarted, or its "
            "connection was lost; a scheduler that stays is required. Call again: blocks that are done are kept."
        )
    error = future.exception(timeout=_ANSWER_SECONDS)
    if error is None:
        record = future.result(timeout=_ANSWER_SECONDS)
    else:  # the worker died, or the task could not be unpickled
        attempts = task.record.attempts + 1
        record = replace(
            task.record, state=ledger.FAILED, attempts=attempts, finished=time.time(), error=repr(error)
        )
    if record.state == ledger.DONE:
        return record
    if record.attempts >= MAX_ATTEMPTS:
        record = replace(record, state=ledger.QUARANTINED)
    try:
        ledger.write(ledger.open_ledger(task.path, task.run), record)
    except OSError as problem:
        raise OSError(
            f"the ledger of run '{task.run}' cannot be written in {task.path} ({problem}); a store with room and "
            "permission to write is required. Put that right and call again: blocks that are done are kept. "
            f"The block that was to be recorded failed with: {record.error.splitlines()[-1]}"
        ) from problem
    return record


def _follow(
    records: Iterable[BlockRecord], summary: Summary, progress: Callable[[Summary], None] | None
) -> Summary:
    """Add up records as they come, from `summary` on."""
    begin = time.time()
    results = Counter(summary.results)
    in_a_row = 0
    allowed = max(MAX_IN_A_ROW, 2 * (summary.forecast.n_workers if summary.forecast else 0))
    report = progress or (lambda summary: None)
    report(summary)
    for record in records:
        if record.state == ledger.DONE:
            in_a_row = 0
            results.update(record.results)
            summary = replace(
                summary,
                n_done=summary.n_done + record.n_stars,
                n_fitted=summary.n_fitted + record.n_stars,
                results=dict(results),
                forecast=_timed(summary.forecast, record),
            )
        else:
            in_a_row += 1
        if record.state == ledger.QUARANTINED:
            summary = replace(summary, quarantined=(*summary.quarantined, record))
        summary = replace(summary, seconds=time.time() - begin)
        report(summary)
        if in_a_row == allowed:
            raise RunStopped(
                f"{in_a_row} attempts in a row failed, so that the fault is not in the blocks; the last one: "
                f"{record.error.strip().splitlines()[-1]}. A store and an estimator that work are required. Put that "
                "right and call again: blocks that are done are kept, the others are tried again."
            )
    return summary


def _timed(expected: Forecast | None, record: BlockRecord) -> Forecast | None:
    """The forecast, with what the first block took."""
    if expected is None or expected.seconds is not None:
        return expected
    rounds = -(-expected.n_blocks // expected.n_workers)
    per_block = record.seconds / record.n_stars * expected.stars_per_block
    return replace(expected, seconds=rounds * per_block, memory=record.peak_memory or expected.memory)


def _summary(
    path: str,
    name: str,
    records: list[BlockRecord],
    expected: Forecast | None = None,
    dashboard: str = "",
) -> Summary:
    done = [record for record in records if record.state == ledger.DONE]
    results = sum((Counter(record.results) for record in done), Counter[str]())
    n_stars = records[-1].star_stop
    n_done = sum(record.n_stars for record in done)
    return Summary(path, name, n_stars, n_done, results=dict(results), forecast=expected, dashboard=dashboard)


def _finish(path: str, name: str, summary: Summary) -> Summary:
    if summary.complete:
        open_labels_group(path, name).attrs["complete"] = True
    return summary


class _Threads:
    """How many blocks the cluster can fit beside each other, asked once a second at most."""

    def __init__(self, client: Client, wait: float):
        self._client, self._wait = client, wait
        self._asked, self._seen, self._found = -math.inf, time.monotonic(), 1

    def forget(self) -> None:
        self._asked = -math.inf

    def count(self) -> int:
        now = time.monotonic()
        if now - self._asked >= _TICK_SECONDS:
            self._asked = now
            self._found = sum(self._client.nthreads().values())
            if self._found:
                self._seen = now
            elif now - self._seen > self._wait:
                raise TimeoutError(
                    f"all workers of {_address(self._client)} left, and none came within {self._wait:g} s; at least "
                    "one is required. Start workers and call again: blocks that are done are kept."
                )
        return self._found


def _wait_for_workers(client: Client, estimator: Estimator, lock: Lock, wait: float) -> None:
    deadline = time.monotonic() + wait
    while True:
        lock.beat()
        try:
            client.wait_for_workers(1, timeout=max(0.1, min(BEAT_SECONDS, deadline - time.monotonic())))
            break
        except TimeoutError as error:
            if time.monotonic() >= deadline:
                raise TimeoutError(
                    f"the cluster at {_address(client)} has no workers after {wait:g} s; at least one is required. "
                    f"Start some: dask worker {_address(client)} --nthreads 1."
                ) from error
    needed = _resources(estimator)
    if needed is None:
        return
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not any(worker["resources"].get(kind, 0) >= n for kind, n in needed.items() for worker in workers):
        raise ValueError(
            f"none of {len(workers)} workers of {_address(client)} offers the resource GPU=1, which device 'cuda' "
            "requires. Start workers with `--resources GPU=1 --nthreads 1`, or use specxr.cluster.cuda()."
        )


def _resources(estimator: Estimator) -> dict[str, float] | None:
    # Given to submit: an annotation of a collection would be lost when Dask optimises its graph.
    return {"GPU": 1} if estimator.device.startswith("cuda") else None


def _check_travels(estimator: Estimator) -> None:
    size = len(pickle.dumps(estimator))
    if size > MAX_PICKLE:
        raise ValueError(
            f"the estimator is {size / 1e6:.1f} MB when it travels to a worker, with every block; at most "
            f"{MAX_PICKLE / 1e6:g} MB are required. Save its weights to a file and open them from there: what was "
            "opened travels as its path and its hash."
        )


def _address(client: Client) -> str:
    return str(client.scheduler.address) if client.scheduler else "nowhere"
