"""What a run will take, before it starts."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from distributed import Client

from specxr.runs.ledger import BlockRecord
from specxr.vocabulary import SPECTRA, STAR

# A worker that has imported everything; and what it needs for each byte of spectra, arithmetic in float64 included
# (measured with LASP: 5.4, docs/performance.md).
_BASE_MEMORY = 400e6
_MEMORY_FACTOR = 6.0


@dataclass(frozen=True)
class Forecast:
    """What a run will take.

    Parameters
    ----------
    n_stars, n_blocks : int
        To be fitted.
    stars_per_block : int
    n_workers : int
        Blocks that are fitted beside each other.
    memory : int
        That a worker needs [bytes].
    memory_limit : int
        That the smallest worker may use [bytes]; 0 where none is set.
    disk : int
        Of the labels, uncompressed [bytes].
    disk_free : int or None
        Where the cube is [bytes]; None where nobody can tell.
    seconds : float or None
        Of the whole run, from its first block; None before that.
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
            f"time; a worker needs {self.memory / 1e9:.1f} GB, the labels {self.disk / 1e6:,.1f} MB of disk"
        )
        return text if self.seconds is None else f"{text}; about {_duration(self.seconds)}"


def forecast(
    path: str, labels: xr.Dataset, cube: xr.Dataset, blocks: Sequence[BlockRecord], client: Client
) -> Forecast:
    """Say what fitting these blocks of a cube will take; `labels` declares what will be written.

    Raises
    ------
    ValueError
        It does not fit into the memory of the workers, or onto the disk.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    stars_per_block = max(block.n_stars for block in blocks)
    n_stars = sum(block.n_stars for block in blocks)
    per_star = sum(cube[name].dtype.itemsize for name in SPECTRA) * cube[SPECTRA[0]].shape[1] * _MEMORY_FACTOR
    found = Forecast(
        n_stars,
        len(blocks),
        stars_per_block,
        sum(worker["nthreads"] for worker in workers),
        int(_BASE_MEMORY + per_star * stars_per_block),
        min(
            (worker["memory_limit"] // worker["nthreads"] for worker in workers if worker["memory_limit"]),
            default=0,
        ),
        n_stars * _label_bytes(labels),
        None if "://" in path else shutil.disk_usage(os.path.dirname(path)).free,
    )
    _check_memory(found, per_star)
    _check_disk(found, path)
    return found


def _label_bytes(labels: xr.Dataset) -> int:
    """Of one star."""
    return sum(
        variable.dtype.itemsize * math.prod(n for dim, n in variable.sizes.items() if dim != STAR)
        for variable in labels.data_vars.values()
    )


def _check_memory(found: Forecast, per_star: float) -> None:
    if not found.memory_limit or found.memory <= found.memory_limit:
        return
    fitting = int((found.memory_limit - _BASE_MEMORY) / per_star)
    if fitting < 1:
        advice = f"Give each worker at least {(_BASE_MEMORY + 100 * per_star) / 1e9:.1f} GB"
    else:
        digits = 10 ** max(0, int(np.log10(fitting)) - 1)
        advice = (
            f"Write the cube in chunks (shards) of at most {fitting // digits * digits:,} stars, or give each worker "
            "more memory: fewer workers on a machine"
        )
    raise ValueError(
        f"a block of {found.stars_per_block:,} stars needs about {found.memory / 1e9:.1f} GB, and the smallest worker "
        f"may use {found.memory_limit / 1e9:.1f} GB for each of its threads; a block that fits is required. {advice}."
    )


def _check_disk(found: Forecast, path: str) -> None:
    if found.disk_free is not None and found.disk > found.disk_free:
        raise ValueError(
            f"the labels of {found.n_stars:,} stars take up to {found.disk / 1e9:.3g} GB, and "
            f"{found.disk_free / 1e9:.3g} GB are free where {path} is; room for all of them is "
            "required. Free some, or move the cube."
        )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
