"""What a cluster offers to a run: workers, threads, GPUs; and how long a run waits for them."""

from __future__ import annotations

import math
import time

import dask
from dask.utils import parse_timedelta
from distributed import Client

from specxr.cubes.lock import BEAT_SECONDS, Lock
from specxr.estimators.base import Estimator

TICK_SECONDS = 1.0  # the driver looks this often whether anything has happened
_WAIT = "60 s"


def patience() -> float:
    """Time that a run waits for workers while there are none [s]: ``specxr.wait`` in the configuration of Dask."""
    return float(parse_timedelta(dask.config.get("specxr.wait", _WAIT)))


class Threads:
    """Number of blocks that a cluster can fit at a time, which is asked once a second at most.

    Parameters
    ----------
    client : distributed.Client
        Client of the cluster.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._asked, self._seen, self._number = -math.inf, time.monotonic(), 1

    def forget(self) -> None:
        """Ask again at the next `count`, because a worker may have died."""
        self._asked = -math.inf

    def count(self) -> int:
        """Number of threads of all workers.

        Raises
        ------
        TimeoutError
            There have been no workers for longer than `patience`.
        """
        now = time.monotonic()
        if now - self._asked >= TICK_SECONDS:
            self._asked = now
            self._number = sum(self._client.nthreads().values())
            if self._number:
                self._seen = now
            elif now - self._seen > patience():
                raise TimeoutError(
                    f"all workers of {address_of(self._client)} left, and none came within {patience():g} s; at least "
                    "one worker is required. Start workers and call again: blocks that are done are kept."
                )
        return self._number


def wait_for_workers(client: Client, estimator: Estimator, lock: Lock) -> None:
    """Wait until there is a worker, and check that the workers have what the estimator needs.

    Raises
    ------
    TimeoutError
        No worker came within `patience`.
    ValueError
        The estimator computes on a GPU, and no worker offers one.
    """
    deadline = time.monotonic() + patience()
    while True:
        lock.beat()
        try:
            client.wait_for_workers(1, timeout=max(0.1, min(BEAT_SECONDS, deadline - time.monotonic())))
            break
        except TimeoutError as error:
            if time.monotonic() >= deadline:
                address = address_of(client)
                raise TimeoutError(
                    f"the cluster at {address} has no workers after {patience():g} s; at least one worker is required. "
                    f"Start one with `dask worker {address} --nthreads 1`, or wait longer: --wait, or "
                    "dask.config.set({'specxr.wait': '1 h'}) in Python."
                ) from error
    _check_resources(client, estimator)


def _check_resources(client: Client, estimator: Estimator) -> None:
    needed = resources_of(estimator)
    if needed is None:
        return
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not any(worker["resources"].get(kind, 0) >= n for kind, n in needed.items() for worker in workers):
        raise ValueError(
            f"none of the {len(workers)} workers of {address_of(client)} offers the resource GPU=1, which the device "
            f"'{estimator.device}' requires. Start workers with `--resources GPU=1 --nthreads 1`, or use "
            "specxr.cluster.cuda()."
        )


def resources_of(estimator: Estimator) -> dict[str, float] | None:
    """Resources that a worker must offer for each block."""
    return {"GPU": 1} if estimator.device.startswith("cuda") else None


def address_of(client: Client) -> str:
    """Address of the scheduler."""
    return str(client.scheduler.address) if client.scheduler else "nowhere"
