"""What a worker does with one block: it reads and fits spectra, writes labels, and then writes that this is done."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
import traceback
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr
from numpy.typing import NDArray

from specxr.cubes.labels import fill_labels
from specxr.cubes.locations import reported
from specxr.cubes.schema import grid_of
from specxr.cubes.store import open_cube
from specxr.estimators.base import Block, Estimator
from specxr.inference import cube_inputs, fit_block
from specxr.runs import ledger
from specxr.runs.ledger import BlockRecord
from specxr.runs.run import Run
from specxr.spectra.grid import Grid
from specxr.vocabulary import SPECTRA, START, START_INPUTS, Result

_ERROR_LENGTH = 4000  # characters of a traceback that are kept


@dataclass(frozen=True)
class Task:
    """One attempt at a block, as it travels to a worker: names and numbers, no arrays.

    Parameters
    ----------
    run : Run
        The run that the block belongs to.
    token : str
        Token of the ledger that the task belongs to.
    grid_fingerprint : str
        Content hash of the wavelengths where the run was started.
    record : BlockRecord
        What is known of the block before this attempt.
    start : str, optional
        Name of the run whose labels the fits start from.
    spectra : bool, optional
        Whether the model spectra are written as well.
    chosen : bytes, optional
        A byte for each star of the block, 1 where it is fitted; None where all are.
    """

    run: Run
    token: str
    grid_fingerprint: str
    record: BlockRecord
    start: str = ""
    spectra: bool = False
    chosen: bytes | None = None


def run_task(task: Task, estimator: Estimator) -> BlockRecord:
    """Fit a block and write its labels; an error is returned in the record.

    Returns
    -------
    BlockRecord
        State "done", and the record is then in the ledger, or state "failed".
    """
    record = replace(
        task.record,
        state=ledger.FAILED,
        attempts=task.record.attempts + 1,
        started=time.time(),
        worker=f"{socket.gethostname()}:{os.getpid()}",
    )
    try:
        # Zarr's own concurrency in all workers of a node at once would be too many requests.
        with zarr.config.set({"async.concurrency": 4, "threading.max_workers": 4}):
            return _fit(task, estimator, record)
    except (
        Exception
    ):  # whatever it is, it costs this block only: the traceback goes into the ledger, and the report
        error = traceback.format_exc()[-_ERROR_LENGTH:]
        return replace(record, finished=time.time(), peak_memory=peak_memory(), error=error)


def _fit(task: Task, estimator: Estimator, record: BlockRecord) -> BlockRecord:
    run = task.run
    known = run.read_record(record.index)
    if known is not None and known.state == ledger.DONE and known.fingerprint == record.fingerprint:
        return known  # Dask repeats a task whose worker died after it was done
    clock = [time.perf_counter()]
    chosen = None if task.chosen is None else np.frombuffer(task.chosen, dtype=bool)
    block = _read(task, estimator, nothing=chosen is not None and not chosen.any())
    clock.append(time.perf_counter())
    labels = fit_block(block, estimator, task.spectra, chosen)
    clock.append(time.perf_counter())
    # A fit takes long enough for the run to be replaced meanwhile: the token is read after it.
    if run.ledger.attrs["token"] != task.token:
        raise RuntimeError(f"{run} was replaced while this block was fitted; its labels are not written.")
    with reported(run.path):
        written = fill_labels(run.labels, record.star_start, labels)
    clock.append(time.perf_counter())
    read_seconds, fit_seconds, write_seconds = np.diff(clock).tolist()
    done = replace(
        record,
        state=ledger.DONE,
        finished=time.time(),
        read_seconds=read_seconds,
        fit_seconds=fit_seconds,
        write_seconds=write_seconds,
        bytes_read=block.flux.nbytes + block.ivar.nbytes + block.mask.nbytes,
        bytes_written=written,
        peak_memory=peak_memory(),
        results=_count(labels.get("result")),
        error="",
    )
    run.write_record(done)
    return done


def _read(task: Task, estimator: Estimator, nothing: bool) -> Block:
    """Spectra of a block, and the variables of its stars that the estimator reads; of no star, where it needs none."""
    grid = _grid(task.run.path, task.grid_fingerprint)
    if nothing:
        none = np.empty((0, grid.wavelength.size), "f4")
        return Block(grid, none, none, none.astype("u2"))
    stars = slice(task.record.star_start, task.record.star_stop)
    flux, ivar, mask = (task.run.read_spectra(name, stars) for name in SPECTRA)
    inputs = {name: task.run.read_spectra(name, stars) for name in cube_inputs(estimator)}
    if task.start:
        start = task.run.beside(task.start)
        for label, name in zip(START, START_INPUTS, strict=True):
            inputs[name] = np.asarray(start.read_labels(label, stars), "f8")
    return Block(grid, flux, ivar, mask, inputs)


@lru_cache(maxsize=8)
def _grid(path: str, fingerprint: str) -> Grid:
    """Grid of a cube, which each process reads once."""
    grid = grid_of(open_cube(path))
    if grid.fingerprint != fingerprint:
        raise ValueError(
            f"{path} has other wavelengths here than where the run was started; one cube that all workers see is "
            "required. Check that the path means the same on every machine."
        )
    return grid


def _count(result: NDArray[Any] | None) -> dict[str, int]:
    if result is None:
        return {}
    codes, counts = np.unique(result, return_counts=True)
    return {Result(code).name.lower(): int(n) for code, n in zip(codes, counts, strict=True)}


def peak_memory() -> int:
    """Largest memory of this process up to now [bytes]."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # there is no such module on Windows

    # On Linux ru_maxrss of a process that was spawned is at least the peak of its parent: a worker of 15 MB whose
    # driver holds 800 MB reports 776 MB. The kernel's own figure begins anew with each program.
    status = Path("/proc/self/status")
    high = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    peak = int(high[1]) if high else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
