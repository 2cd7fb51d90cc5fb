"""The ledger of a bulk run: which estimator it fits, and what became of each block of stars.

The records have no store: `specxr.runs.run.Run` reads and writes them in the group ``labels/<run>/ledger`` of the
cube. The attributes of the group are the `Header`; the array ``blocks`` has one `BlockRecord` for each block, as JSON.
Each record is a chunk of its own, hence one file or object that appears whole or not at all. A worker writes the record
of a block after the labels of the block; the driver writes the records of blocks that failed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specxr.content import short_fingerprint

LEDGER_VERSION = 1

WAITING, FAILED, DONE, QUARANTINED = "waiting", "failed", "done", "quarantined"


@dataclass(frozen=True)
class BlockRecord:
    """What became of one block of stars.

    Parameters
    ----------
    index : int
        Number of the block, from 0.
    star_start, star_stop : int
        Index of the first star, and of the last star plus one.
    state : {"waiting", "failed", "done", "quarantined"}
        A failed block is tried again in the same run, a block in quarantine when the run is called again.
    attempts : int
        Number of attempts of the run that wrote the record.
    fingerprint : str
        Content hash of the estimator, the grid and the identity of the stars; see `block_fingerprint`.
    started, finished : float
        Unix times of the last attempt [s].
    read_seconds, fit_seconds, write_seconds : float
        Duration of the parts of the last attempt [s]; the fit is the time of the estimator alone.
    bytes_read, bytes_written : int
        Size of the spectra that were read and of the labels that were written, uncompressed [bytes].
    peak_memory : int
        Largest memory of the worker's process up to the end of this block [bytes].
    worker : str
        ``host:pid`` of the worker.
    results : mapping of str to int
        Number of stars for each result code, by its lower-case name.
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

    @classmethod
    def from_json(cls, text: str) -> BlockRecord:
        """Read a record from the text that `to_json` gives."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Text of the record, as it is stored."""
        return json.dumps(asdict(self))

    @property
    def n_stars(self) -> int:
        """Number of stars in the block."""
        return self.star_stop - self.star_start

    @property
    def seconds(self) -> float:
        """Duration of the last attempt [s]."""
        return self.finished - self.started

    @property
    def reason(self) -> str:
        """Last line of the traceback, which says what failed."""
        return self.error.strip().rpartition("\n")[2]


@dataclass(frozen=True)
class Header:
    """What a run fits, and with which estimator; the same in every call that continues the run.

    Parameters
    ----------
    token : str
        Random name that tells this run from another of the same name that it replaced.
    estimator : str
        Name of the estimator's class.
    estimator_fingerprint : str
        Content hash of everything that decides the labels: the estimator, the run that the fits start from, and
        whether model spectra are written.
    options : mapping
        Provenance of the estimator.
    grid_fingerprint : str
        Content hash of the wavelengths.
    n_stars : int
        Number of stars in the cube.
    stars_per_block : int
        Number of stars in each block but the last.
    specxr_version : str
        Version of specxr that began the run.
    ledger_version : int
        Version of the format of the ledger.
    start : str
        Name of the run whose labels the fits start from; empty where there is none.
    spectra : bool
        Whether the model spectra are written beside the labels.
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
    start: str = ""
    spectra: bool = False

    @property
    def n_blocks(self) -> int:
        """Number of blocks of the run."""
        return -(-self.n_stars // self.stars_per_block)

    @property
    def blocks(self) -> list[BlockRecord]:
        """Records of all blocks of the run, as if none had been tried."""
        bounds = blocks_of(self.n_stars, self.stars_per_block)
        return [BlockRecord(index, *stars) for index, stars in enumerate(bounds)]


@dataclass(frozen=True)
class Ledger:
    """The ledger of a run as it was at the instant of reading.

    Parameters
    ----------
    header : Header
        What the run fits.
    blocks : list of BlockRecord
        Records of all blocks in the order of the stars; the state is "waiting" where nothing is recorded.
    """

    header: Header
    blocks: list[BlockRecord]

    @property
    def done(self) -> list[BlockRecord]:
        """Records of the blocks whose labels are written."""
        return [block for block in self.blocks if block.state == DONE]


def blocks_of(n_stars: int, stars_per_block: int) -> list[tuple[int, int]]:
    """Index of the first star, and of the last star plus one, of each block."""
    return [(start, min(n_stars, start + stars_per_block)) for start in range(0, n_stars, stars_per_block)]


def run_fingerprint(estimator_fingerprint: str, start: str, spectra: bool) -> str:
    """Content hash of an estimator, with what a run adds to it: the labels to start from, and model spectra."""
    return estimator_fingerprint + (f" from {start}" if start else "") + (" with spectra" if spectra else "")


def block_fingerprint(
    estimator_fingerprint: str,
    grid_fingerprint: str,
    obsid: NDArray[np.int64],
    chosen: NDArray[np.bool_] | None = None,
) -> str:
    """Content hash of what decides the labels of a block: the estimator, the grid and the stars that are fitted."""
    identity = short_fingerprint(estimator_fingerprint, grid_fingerprint, np.asarray(obsid, dtype="<i8"))
    if chosen is None or chosen.all():
        return identity
    return short_fingerprint(identity, np.asarray(chosen, dtype="u1"))
