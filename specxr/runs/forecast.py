"""What a run will take, before it starts."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from dask.utils import format_bytes, format_time

from specxr.cubes.layout import star_bytes
from specxr.cubes.locations import is_url
from specxr.runs.ledger import BlockRecord
from specxr.vocabulary import STAR

# Memory of a worker that has imported everything; and memory for each byte of spectra, arithmetic in float64 included
# (measured with LASP: 5.4, docs/measured/performance.md).
_BASE_MEMORY = 500e6
_MEMORY_FACTOR = 6.0


@dataclass(frozen=True)
class Offer:
    """What a place offers to a run.

    Parameters
    ----------
    slots : int
        Number of blocks that it fits at a time.
    memory_limit : int
        Memory that the fit of one block may use, with what its process needs [bytes]; 0 where there is no limit.
    dashboard : str
        Address of the Dask dashboard.
    """

    slots: int
    memory_limit: int
    dashboard: str = ""


@dataclass(frozen=True)
class Forecast:
    """What a run will take.

    Parameters
    ----------
    n_stars, n_blocks : int
        Number of stars and of blocks that are to be fitted.
    stars_per_block : int
        Number of stars in the largest of these blocks.
    n_workers : int
        Number of blocks that are fitted at a time.
    memory : int
        Memory that a worker needs [bytes].
    memory_limit : int
        Memory that the smallest worker may use for each of its threads [bytes]; 0 where there is no limit.
    disk : int
        Size of the labels, uncompressed [bytes].
    disk_free : int or None
        Free space where the cube is [bytes]; None where it is not known, as in a bucket.
    seconds : float or None
        Duration of the whole run, estimated from its first block [s]; None before that block is done.
    """

    n_stars: int
    n_blocks: int
    stars_per_block: int
    n_workers: int
    memory: int
    memory_limit: int
    disk: int
    disk_free: int | None
    seconds: float | None = None

    def __str__(self) -> str:
        text = (
            f"{self.n_stars:,} stars in {self.n_blocks:,} blocks of {self.stars_per_block:,}, {self.n_workers} at a "
            f"time; each worker needs {format_bytes(self.memory)} of memory, the labels need {format_bytes(self.disk)} "
            "of disk"
        )
        return text if self.seconds is None else f"{text}; about {format_time(self.seconds).strip()}"

    def timed(self, record: BlockRecord) -> Forecast:
        """Forecast with the duration that follows from the first block that is done."""
        if self.seconds is not None:
            return self
        rounds = -(-self.n_blocks // self.n_workers)
        per_block = record.seconds / record.n_stars * self.stars_per_block
        return replace(self, seconds=rounds * per_block, memory=record.peak_memory or self.memory)


def forecast(
    path: str, cube: xr.Dataset, labels: xr.Dataset, blocks: Sequence[BlockRecord], offer: Offer
) -> Forecast:
    """Forecast what fitting some blocks of a cube will take.

    Parameters
    ----------
    path : str
        Path of the cube.
    cube : Dataset
        The cube.
    labels : Dataset
        Labels of no star, which declare the variables (``specxr.inference.declare``).
    blocks : sequence of BlockRecord
        Blocks that are to be fitted.
    offer : Offer
        What the place offers where they are to be fitted.

    Raises
    ------
    ValueError
        A block does not fit into the memory of the workers, or the labels do not fit onto the disk.
    """
    n_stars = sum(block.n_stars for block in blocks)
    stars_per_block = max(block.n_stars for block in blocks)
    memory_per_star = star_bytes(cube) * _MEMORY_FACTOR
    expected = Forecast(
        n_stars=n_stars,
        n_blocks=len(blocks),
        stars_per_block=stars_per_block,
        n_workers=offer.slots,
        memory=int(_BASE_MEMORY + memory_per_star * stars_per_block),
        memory_limit=offer.memory_limit,
        disk=n_stars * _label_bytes(labels),
        disk_free=None if is_url(path) else shutil.disk_usage(os.path.dirname(path)).free,
    )
    _check_memory(expected, memory_per_star)
    _check_disk(expected, path)
    return expected


def _label_bytes(labels: xr.Dataset) -> int:
    """Size of the labels of one star, uncompressed [bytes]."""
    return sum(
        variable.dtype.itemsize * math.prod(n for dim, n in variable.sizes.items() if dim != STAR)
        for variable in labels.data_vars.values()
    )


def _check_memory(expected: Forecast, memory_per_star: float) -> None:
    if not expected.memory_limit or expected.memory <= expected.memory_limit:
        return
    most = int((expected.memory_limit - _BASE_MEMORY) / memory_per_star)
    if most < 1:
        advice = f"Give each worker at least {format_bytes(int(_BASE_MEMORY + 100 * memory_per_star))}"
    else:
        digits = 10 ** max(0, int(np.log10(most)) - 1)
        advice = (
            f"Write the cube in chunks (shards) of at most {most // digits * digits:,} stars, or give each worker "
            "more memory, with fewer workers on a machine"
        )
    raise ValueError(
        f"a block of {expected.stars_per_block:,} stars needs about {format_bytes(expected.memory)}, and the smallest "
        f"worker may use {format_bytes(expected.memory_limit)} for each of its threads; a block that fits is required. "
        f"{advice}."
    )


def _check_disk(expected: Forecast, path: str) -> None:
    if expected.disk_free is not None and expected.disk > expected.disk_free:
        raise ValueError(
            f"the labels of {expected.n_stars:,} stars take up to {format_bytes(expected.disk)}, and "
            f"{format_bytes(expected.disk_free)} are free where {path} is; room for all of them is required. Free some "
            "space, or move the cube."
        )
