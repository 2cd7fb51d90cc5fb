"""What a worker does with one block: read, fit, write the labels, then write that it is done."""

from __future__ import annotations

import os
import socket
import time
import traceback
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from specxr.cubes.labels import fill_labels, open_labels_group
from specxr.cubes.schema import grid_of
from specxr.cubes.store import open_cube, open_group
from specxr.estimators.base import Block, Estimator
from specxr.inference import cube_inputs, fit_block
from specxr.runs import ledger
from specxr.runs.ledger import BlockRecord
from specxr.spectra.grid import Grid
from specxr.vocabulary import SPECTRA, START, START_INPUTS, Result

_ERROR_LENGTH = 4000  # characters of a traceback that are kept


@dataclass(frozen=True)
class Task:
    """One attempt at a block, as it travels to a worker: names and numbers, no arrays.

    Parameters
    ----------
    path : str
        The cube.
    run : str
    token : str
        Of the ledger that this task belongs to.
    grid_fingerprint : str
    record : BlockRecord
        What is known of the block before this attempt.
    start : str, optional
        Another run, whose labels the fits begin with.
    spectra : bool, optional
        Whether the model spectra are written as well.
    """

    path: str
    run: str
    token: str
    grid_fingerprint: str
    record: BlockRecord
    start: str | None = None
    spectra: bool = False


def run_task(task: Task, estimator: Estimator) -> BlockRecord:
    """Fit a block and write it; what goes wrong comes back in the record.

    Returns
    -------
    BlockRecord
        "done", and then it is in the ledger, or "failed".
    """
    record = replace(
        task.record,
        state=ledger.FAILED,
        attempts=task.record.attempts + 1,
        started=time.time(),
        worker=f"{socket.gethostname()}:{os.getpid()}",
    )
    try:
        # Zarr's own concurrency times the workers of a node would be too many requests.
        with zarr.config.set({"async.concurrency": 4, "threading.max_workers": 4}):
            return _run(task, estimator, record)
    except Exception:
        error = traceback.format_exc()[-_ERROR_LENGTH:]
        return replace(record, finished=time.time(), peak_memory=peak_memory(), error=error)


def _run(task: Task, estimator: Estimator, record: BlockRecord) -> BlockRecord:
    known = ledger.read_block(ledger.open_ledger(task.path, task.run), record.index)
    if known is not None and known.state == ledger.DONE and known.fingerprint == record.fingerprint:
        return known  # Dask repeats a task whose worker died after it was done
    clock = [time.perf_counter()]
    block = _read(task, estimator)
    clock.append(time.perf_counter())
    labels = fit_block(block, estimator, task.spectra)
    clock.append(time.perf_counter())
    ledger_group = ledger.open_ledger(task.path, task.run)
    if ledger_group.attrs["token"] != task.token:
        raise RuntimeError(
            f"run '{task.run}' of {task.path} was replaced while this block was fitted; its labels are not written."
        )
    written = fill_labels(open_labels_group(task.path, task.run), record.star_start, labels)
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
    ledger.write(ledger_group, done)
    return done


def _read(task: Task, estimator: Estimator) -> Block:
    grid = _grid(task.path, task.grid_fingerprint)
    cube = open_group(task.path, "r")
    stars = slice(task.record.star_start, task.record.star_stop)
    inputs = {name: np.asarray(cube[name][stars]) for name in cube_inputs(estimator)}
    if task.start is not None:
        labels = open_labels_group(task.path, task.start)
        columns = (np.asarray(labels[name][stars], "f8") for name in START)
        inputs |= dict(zip(START_INPUTS, columns, strict=True))
    flux, ivar, mask = (np.asarray(cube[name][stars]) for name in SPECTRA)
    return Block(grid, flux, ivar, mask, inputs)


@lru_cache(maxsize=8)
def _grid(path: str, fingerprint: str) -> Grid:
    """Grid of a cube, read once a process."""
    grid = grid_of(open_cube(path))
    if grid.fingerprint != fingerprint:
        raise ValueError(
            f"{path} has other wavelengths here than where the run was started; one cube that all workers see is "
            "required. Check that the path means the same everywhere."
        )
    return grid


def _count(result: NDArray[Any] | None) -> dict[str, int]:
    if result is None:
        return {}
    codes, counts = np.unique(result, return_counts=True)
    return {Result(code).name.lower(): int(n) for code, n in zip(codes, counts, strict=True)}


def peak_memory() -> int:
    """The most that this process has held so far [bytes]; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) * 1024
    return 0
