"""How a cube is cut into chunks and shards, chosen from the memory of the machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import psutil
import xarray as xr
import zarr

from specxr.vocabulary import SPECTRA, STAR, WAVELENGTH

# A task holds one block of stars, and fitting it takes about eight times its size: a quarter of a core's memory.
_SHARE_OF_MEMORY = 32
_BLOCK_BYTES = (16e6, 128e6)
_CHUNKS_PER_SHARD = 8
# With fewer blocks than this, shards would leave workers idle, and few files need no shards.
_LARGE = 16


@dataclass(frozen=True)
class Layout:
    """Stars that are stored together, with all their pixels.

    Parameters
    ----------
    chunk : int
        Number of stars that are read together.
    shard : int, optional
        Number of stars that are written together: one file or object, one block of an estimator. Without it, these
        are the stars of a chunk.
    """

    chunk: int
    shard: int | None = None

    def __post_init__(self) -> None:
        if self.chunk < 1 or (self.shard or self.chunk) % self.chunk:
            raise ValueError(
                f"chunks of {self.chunk} stars in shards of {self.shard} were requested; shards of whole chunks are "
                "required. Choose a multiple of the chunk."
            )

    @property
    def block(self) -> int:
        """Number of stars that are written together."""
        return self.shard or self.chunk


def choose_layout(n_stars: int, star_bytes: int) -> Layout:
    """Choose chunks and shards for a cube.

    A block of stars is a 32nd of the memory that each core of this machine has, at least 16 and at most 128 MB. Cubes
    of more than 16 such blocks are sharded, with eight chunks in a shard; smaller ones have chunks of an eighth of a
    block.

    Parameters
    ----------
    n_stars : int
        Number of stars that the cube will have, roughly.
    star_bytes : int
        Size of one star's flux, ivar and mask [bytes].

    Returns
    -------
    Layout
    """
    memory = psutil.virtual_memory().total / (os.cpu_count() or 1)
    low, high = _BLOCK_BYTES
    chunk = max(1, round(min(max(memory / _SHARE_OF_MEMORY, low), high) / star_bytes / _CHUNKS_PER_SHARD))
    shard = chunk * _CHUNKS_PER_SHARD
    return Layout(chunk, shard if n_stars > _LARGE * shard else None)


def star_bytes(cube: xr.Dataset) -> int:
    """Size of one star's flux, ivar and mask [bytes]."""
    return cube.sizes[WAVELENGTH] * sum(
        int(cube.variables[name].dtype.itemsize) for name in SPECTRA if name in cube.variables
    )


def layout_of(group: zarr.Group) -> Layout:
    """Layout of the spectra of a stored cube."""
    array: Any = group["flux"]
    axis = array.metadata.dimension_names.index(STAR)
    return Layout(array.chunks[axis], array.shards[axis] if array.shards else None)


def describe_layout(layout: Layout, star_bytes: int) -> str:
    """Description of a layout in one line, with sizes in memory before compression."""
    size = layout.block * star_bytes / 1e6
    if layout.shard is None:
        return f"chunks of {layout.chunk:,} stars ({size:.3g} MB)"
    return f"shards of {layout.shard:,} stars ({size:.3g} MB) in chunks of {layout.chunk:,}"
