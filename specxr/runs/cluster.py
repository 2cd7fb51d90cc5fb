"""Where blocks are fitted: processes of this machine, GPUs, jobs of SLURM, or any Dask cluster.

None of these clients becomes Dask's default. A default client that fails to connect, or is closed, would hinder
whatever is computed next.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask
from dask.system import CPU_COUNT
from distributed import Client, Security
from distributed.comm.addressing import parse_address, parse_host_port
from distributed.comm.registry import backends
from distributed.system import MEMORY_LIMIT

from specxr.cubes.processes import check_importable, check_limits, cores, memory_left

CONNECT_SECONDS = 10.0
_DEFAULT_PORT = 8786
_LOG = logging.getLogger(__name__)


def local(n_workers: int | None = None, memory_limit: str | float = "auto") -> Client:
    """Start workers on this machine: processes of one thread each, for Dask and for torch.

    A script calls this under ``if __name__ == "__main__":``.

    Parameters
    ----------
    n_workers : int, optional
        Number of workers; by default the number of cores.
    memory_limit : str or float, optional
        Memory of each worker, such as ``"4 GB"``; by default its share of the memory of the machine.

    Returns
    -------
    distributed.Client
        Client of these workers. They end when it is closed, or when its ``with`` block is left.
    """
    n_workers = n_workers or cores()
    check_importable("specxr.run (specxr.cluster.local)")
    check_limits(n_workers)
    if memory_limit == "auto":  # Dask's share of the machine, unless the limits of the process allow less
        memory_limit = min(MEMORY_LIMIT / CPU_COUNT, memory_left())
    _LOG.info("starting %d workers ...", n_workers)
    # A few seconds after a worker has died, Dask closes its nanny for good if no worker of the same name is there. This
    # also happens where the next worker has died as well and is being started again; nannies need no such help. Dask
    # reads the option when a worker dies, so that it cannot be set for this call alone.
    dask.config.set({"distributed.deploy.lost-worker-timeout": "7 days"})
    settings = {
        # A block whose worker dies has failed once, because the run counts the failures, and not the scheduler.
        "distributed.scheduler.allowed-failures": 0,
        # What a worker would log on the terminal is in the ledger, or in the run's own messages.
        "distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical",
        # Every block needs arrays of the same sizes. Where their memory goes back to the system after each use, as Dask
        # has it, a fit takes a third longer.
        "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 2**26,
        "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 2**25,
        # Every 10 ms, Dask looks at what a worker does, which takes 6 % of its time and shows nothing of compiled code.
        "distributed.worker.profile.interval": "1s",
    }
    with dask.config.set(settings):
        with _interrupts_blocked():
            client = Client(
                n_workers=0,
                threads_per_worker=1,
                processes=True,
                memory_limit=memory_limit,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
                set_as_default=False,
            )
        try:
            assert client.cluster is not None
            client.cluster.scale(n_workers)
            client.wait_for_workers(n_workers)
        except BaseException:
            with suppress(Exception):  # what happened before is more important
                client.close()
            raise
    return client


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Let no Ctrl-C reach the processes that threads which begin here start: they end when their nanny says so.

    A process inherits the signals that are blocked from the thread that starts it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Where the first process of a program is started, Python starts this one before it, and unblocks the signals.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def cuda(**options: Any) -> Client:
    """Start one worker for each GPU of this machine; needs ``pip install specxr[cuda]``.

    Parameters
    ----------
    **options
        Options of ``dask_cuda.LocalCUDACluster``, such as ``CUDA_VISIBLE_DEVICES="0,1"``.

    Returns
    -------
    distributed.Client
        Client of these workers.
    """
    # dask-cuda pins an older Dask and fails to import without CUDA's own libraries, hence any exception.
    try:
        from dask_cuda import LocalCUDACluster
    except Exception as error:
        raise ImportError(
            f"dask-cuda cannot be imported ({error}); it is required to start a worker for each GPU. Install it on a "
            "machine with a GPU (pip install 'specxr[cuda]'), or connect to workers started with `dask worker "
            "SCHEDULER --nthreads 1 --resources GPU=1`."
        ) from error
    return Client(
        LocalCUDACluster(threads_per_worker=1, resources={"GPU": 1}, **options), set_as_default=False
    )


def slurm(jobs: int, *, cores: int, memory: str, walltime: str, **options: Any) -> Client:
    """Start workers as jobs of SLURM; needs ``pip install specxr[slurm]``.

    Parameters
    ----------
    jobs : int
        Number of jobs.
    cores : int
        Number of workers in each job; each worker has one thread.
    memory : str
        Memory of each job, such as ``"64 GB"``.
    walltime : str
        Time limit of each job, such as ``"04:00:00"``. Other jobs fit the blocks that a job leaves behind.
    **options
        Options of ``dask_jobqueue.SLURMCluster``: ``queue``, ``account``, ``job_extra_directives``, ...

    Returns
    -------
    distributed.Client
        Client of these workers.
    """
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise ImportError(
            f"dask-jobqueue cannot be imported ({error}); it is required to start jobs of SLURM. Install it (pip "
            "install 'specxr[slurm]'), or start workers with `srun dask worker` (docs/how-to/clusters.md)."
        ) from error
    cluster = SLURMCluster(cores=cores, processes=cores, memory=memory, walltime=walltime, **options)
    cluster.scale(jobs=jobs)
    return Client(cluster, set_as_default=False)


def connect(address: str, security: Security | None = None) -> Client:
    """Connect to the scheduler of a running Dask cluster.

    Parameters
    ----------
    address : str
        Address of the scheduler, such as ``tls://node1:8786``, or path of its scheduler file.
    security : distributed.Security, optional
        Certificates of a cluster that asks for them; without it, those of the configuration of Dask
        (docs/how-to/clusters.md).

    Raises
    ------
    ConnectionError
        Nothing answers within ten seconds.
    """
    try:
        if os.path.isfile(address):
            address = json.loads(Path(address).read_text())["address"]
        _check_answers(address)
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False, security=security)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConnectionError(
            f"no Dask scheduler answers at '{address}' within {CONNECT_SECONDS:.0f} s ({error}); the address of a "
            "running one, such as tcp://node1:8786, is required. Start one with `dask scheduler`, or leave "
            "--scheduler out to use this machine."
        ) from error


def _check_answers(address: str) -> None:
    """Raise where nothing listens, because a Client that fails to connect leaves threads that hinder the next one."""
    scheme, location = parse_address(address)
    if not location:
        raise ValueError("it is empty")
    if scheme in ("tcp", "tls"):
        socket.create_connection(parse_host_port(location, _DEFAULT_PORT), CONNECT_SECONDS).close()
    elif scheme not in backends:
        raise ValueError(f"{scheme}:// is not a protocol of Dask")
