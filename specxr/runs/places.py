"""Where a run has its blocks fitted: on a cluster, or in threads of this process."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol
from uuid import uuid4

import dask
from distributed import Client
from distributed.system import MEMORY_LIMIT

from specxr.cubes.processes import memory_left
from specxr.estimators.base import Estimator
from specxr.runs.capacity import Threads, resources_of
from specxr.runs.forecast import Offer
from specxr.runs.ledger import BlockRecord
from specxr.runs.worker import Task, run_task

_LOG = logging.getLogger(__name__)


class Place(Protocol):
    """Where blocks are fitted."""

    def offer(self) -> Offer:
        """What the place offers at this moment."""

    def slots(self) -> int:
        """Number of blocks that it fits at a time, at this moment."""

    def forget(self) -> None:
        """Count anew at the next call of `slots`, because a worker may have died."""

    def submit(self, task: Task) -> Any:
        """Begin to fit a block; returns a future of its record."""

    def cancel(self, futures: list[Any]) -> None:
        """Give up blocks that nobody waits for any more."""


class OnCluster:
    """The workers of a Dask cluster.

    Parameters
    ----------
    client : distributed.Client
        Client of the cluster.
    estimator : Estimator
        Estimator that travels with each task.
    """

    def __init__(self, client: Client, estimator: Estimator) -> None:
        self._client, self._estimator = client, estimator
        self._threads = Threads(client)
        self._prefix = f"specxr-{type(estimator).__name__.lower()}-{uuid4().hex[:8]}"

    def offer(self) -> Offer:
        """Threads of all workers, and what is left of the memory of the smallest one for each of its threads."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        # A worker is ended, with its block, before it has used all of its limit.
        share = dask.config.get("distributed.worker.memory.terminate") or 1.0
        limits = [share * one["memory_limit"] // one["nthreads"] for one in workers if one["memory_limit"]]
        slots = sum(one["nthreads"] for one in workers)
        return Offer(slots, int(min(limits, default=0)), self._client.dashboard_link)

    def slots(self) -> int:
        """Number of threads of all workers."""
        return self._threads.count()

    def forget(self) -> None:
        """Count anew at the next call of `slots`."""
        self._threads.forget()

    def submit(self, task: Task) -> Any:
        """Send a block to the scheduler."""
        key: Hashable = (self._prefix, task.record.index, task.record.attempts)
        # Resources are given here: an annotation of a collection is lost when Dask optimises its graph.
        resources = resources_of(self._estimator)
        return self._client.submit(run_task, task, self._estimator, key=key, pure=False, resources=resources)

    def cancel(self, futures: list[Any]) -> None:
        """Tell the scheduler that nobody waits for these blocks."""
        self._client.cancel(futures)


class Here:
    """Threads of this process, which need no time to start; with one alone, blocks are fitted by the caller.

    Parameters
    ----------
    slots : int
        Number of threads.
    estimator : Estimator
        Estimator of the labels.
    """

    def __init__(self, slots: int, estimator: Estimator) -> None:
        self._slots, self._estimator = slots, estimator
        self._pool = ThreadPoolExecutor(slots) if slots > 1 else None

    def offer(self) -> Offer:
        """The threads, and for each its share of the memory that this process may use."""
        return Offer(self._slots, int(min(MEMORY_LIMIT, memory_left()) // self._slots))

    def slots(self) -> int:
        """Number of threads."""
        return self._slots

    def forget(self) -> None:
        """Nothing: these threads do not die alone."""

    def submit(self, task: Task) -> Future[BlockRecord]:
        """Fit a block, at once where there is one thread."""
        if self._pool:
            return self._pool.submit(run_task, task, self._estimator)
        future: Future[BlockRecord] = Future()
        future.set_result(run_task(task, self._estimator))
        return future

    def cancel(self, futures: list[Any]) -> None:
        """Wait for the blocks that are being fitted, which end with their labels written, and drop the others."""
        if self._pool and futures:
            _LOG.info("stopping after the %d blocks that are being fitted ...", len(futures))
            self._pool.shutdown(cancel_futures=True)
