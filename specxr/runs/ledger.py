"""The ledger of a bulk run: what became of each block of stars, beside the labels.

It is the group ``labels/<run>/ledger`` of the cube: the attributes say what is fitted with what, and the array
``blocks`` has one record a block, as JSON. Each record is a chunk, hence one file or object that appears whole or
not at all. A worker writes the record of a block after the labels of the block; the driver writes those of blocks
that failed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from specxr.cubes.store import open_group

LEDGER_VERSION = 1

WAITING, FAILED, DONE, QUARANTINED = "waiting", "failed", "done", "quarantined"


@dataclass(frozen=True)
class BlockRecord:
    """What became of one block.

    Parameters
    ----------
    index : int
    star_start, star_stop : int
        First and last-plus-one star.
    state : {"waiting", "failed", "done", "quarantined"}
        A failed block is tried again in the same run, one in quarantine when the run is called again.
    attempts : int
        In the run that wrote the record.
    fingerprint : str
        Content hash of the estimator, the grid and the identity of the stars; see `block_fingerprint`.
    started, finished : float
        Unix time of the last attempt [s].
    read_seconds, fit_seconds, write_seconds : float
        Parts of the last attempt [s]; fitting is the estimator alone.
    bytes_read, bytes_written : int
        Of arrays in memory, before compression.
    peak_memory : int
        The most that the worker's process has held so far [bytes].
    worker : str
        ``host:pid``.
    results : mapping of str to int
        Stars for each result code, by lower-case name.
    error : str
        Traceback of the last failure.
    """

    index: int
    star_start: int
    star_stop: int
    state: str = WAITING
    attempts: int = 0
    fingerprint: str = ""
    started: float = 0.0
    finished: float = 0.0
    read_seconds: float = 0.0
    fit_seconds: float = 0.0
    write_seconds: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    peak_memory: int = 0
    worker: str = ""
    results: Mapping[str, int] = field(default_factory=dict)
    error: str = ""

    @property
    def n_stars(self) -> int:
        """Stars in the block."""
        return self.star_stop - self.star_start

    @property
    def seconds(self) -> float:
        """Duration of the last attempt [s]."""
        return self.finished - self.started


@dataclass(frozen=True)
class Header:
    """What a run fits with what; the same in every call that continues it.

    Parameters
    ----------
    token : str
        Tells this run from another of the same name that it replaced.
    estimator, estimator_fingerprint : str
    options : mapping
        The estimator's provenance.
    grid_fingerprint : str
        Of the wavelengths.
    n_stars, stars_per_block : int
    specxr_version : str
    ledger_version : int
    """

    token: str
    estimator: str
    estimator_fingerprint: str
    options: Mapping[str, Any]
    grid_fingerprint: str
    n_stars: int
    stars_per_block: int
    specxr_version: str
    ledger_version: int = LEDGER_VERSION


@dataclass(frozen=True)
class Ledger:
    """A ledger as it was when it was read."""

    header: Header
    blocks: list[BlockRecord]


def read(path: str | os.PathLike[str], run: str) -> Ledger:
    """Read the ledger of a run; a run in progress may be read.

    Parameters
    ----------
    path : path-like
        The cube.
    run : str
        Name of the run.

    Returns
    -------
    Ledger
        With a record of every block in the order of the stars; state "waiting" where nothing is recorded.

    Raises
    ------
    FileNotFoundError
        There is no ledger: no such run, or labels that ``write_labels`` wrote.
    ValueError
        A newer specxr wrote it.
    """
    header = read_header(path, run)
    if header is None:
        raise FileNotFoundError(
            f"{path} has no ledger of a run '{run}'; a run that `specxr.run` (`specxr infer`) made is required. "
            "Choose one of `specxr.cubes.store.list_runs`."
        )
    return Ledger(header, _read_blocks(path, run, header))


def read_header(path: str | os.PathLike[str], run: str) -> Header | None:
    """Read what a run fits with what; None where there is no ledger."""
    try:
        attrs = dict(open_group(path, "r")[_place(run)].attrs)
    except (KeyError, FileNotFoundError):
        return None
    version = attrs.get("ledger_version")
    if not isinstance(version, int) or version > LEDGER_VERSION:
        raise ValueError(
            f"the ledger of run '{run}' in {path} has version {version}; this specxr reads up to {LEDGER_VERSION}. "
            "Install a newer specxr, or choose another name for the run."
        )
    return Header(**attrs)


def create(path: str | os.PathLike[str], run: str, header: Header) -> None:
    """Begin a ledger; the group of the labels is there already."""
    place = _place(run)
    group = open_group(path, "r+")
    ledger = group.create_group(place, overwrite=True)
    ledger.create_array(
        "blocks",
        shape=(_n_blocks(header),),
        chunks=(1,),
        dtype="string",
        fill_value="",
        dimension_names=["block"],
    )
    # Last, in one piece: attributes say that the ledger, and the labels that it tells of, are complete.
    ledger.attrs.put(asdict(header))


def grow(path: str | os.PathLike[str], run: str, header: Header) -> None:
    """Make room for the stars that `header` has more than the ledger."""
    ledger = open_group(path, "r+")[_place(run)]
    ledger["blocks"].resize((_n_blocks(header),))
    ledger.attrs.put(asdict(header))


def write(ledger: zarr.Group, record: BlockRecord) -> None:
    """Write the record of a block to the group of a ledger."""
    ledger["blocks"][record.index] = json.dumps(asdict(record))


def read_block(ledger: zarr.Group, index: int) -> BlockRecord | None:
    """Read what is recorded of a block in the group of a ledger; None where nothing is."""
    text = str(ledger["blocks"][index])
    return BlockRecord(**json.loads(text)) if text else None


def open_ledger(path: str | os.PathLike[str], run: str) -> zarr.Group:
    """Open the group of a ledger to write in it."""
    return open_group(path, "r+")[_place(run)]


def blocks_of(n_stars: int, stars_per_block: int) -> list[tuple[int, int]]:
    """First and last-plus-one star of each block."""
    return [(start, min(n_stars, start + stars_per_block)) for start in range(0, n_stars, stars_per_block)]


def block_fingerprint(estimator_fingerprint: str, grid_fingerprint: str, obsid: NDArray[np.int64]) -> str:
    """Content hash of what decides the labels of a block: the estimator, the grid and which stars they are."""
    content = hashlib.sha256(f"{estimator_fingerprint} {grid_fingerprint}".encode())
    content.update(np.ascontiguousarray(obsid, dtype="<i8").tobytes())
    return content.hexdigest()[:16]


def _place(run: str) -> str:
    return f"labels/{run}/ledger"


def _n_blocks(header: Header) -> int:
    return -(-header.n_stars // header.stars_per_block)


def _read_blocks(path: str | os.PathLike[str], run: str, header: Header) -> list[BlockRecord]:
    written = open_group(path, "r")[_place(run)]["blocks"][:]
    bounds = blocks_of(header.n_stars, header.stars_per_block)
    return [
        BlockRecord(**json.loads(str(text))) if text else BlockRecord(index, *stars)
        for index, (stars, text) in enumerate(zip(bounds, written, strict=False))
    ]
