"""Print what the scheduling of a run costs: blocks with nothing to fit; client, scheduler and workers in one process.

    python tests/benchmarks/blocks.py [--blocks 20000]

It prints how much memory the process gains, and the seconds that a block takes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import zarr
from distributed import Client

import specxr
from specxr.cubes.schema import make_cube
from specxr.cubes.store import write_cube
from specxr.estimators.base import Block, Output
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread

GRID = Grid(10.0 ** ((36990 + np.arange(20)) * 1e-4), "vacuum", "log10", 1e-4, LineSpread.constant(1800.0))


@dataclass(frozen=True)
class Nothing:
    """An estimator that computes nothing."""

    labels = ("teff",)
    inputs = ()
    device = "cpu"
    weighted = False
    outputs = (Output("teff", ("star",), "float64"),)
    fingerprint = "nothing"
    provenance = {"estimator": "Nothing"}

    def check(self, grid: Grid) -> None:
        pass

    def estimate(self, block: Block, spectra: bool = False) -> dict[str, np.ndarray]:
        return {"teff": np.ones(len(block.flux))}


def write_blocks(path: Path, n_blocks: int) -> None:
    """Write a cube with one star in a block; no spectrum is stored, so that all read as zeros."""
    one = np.zeros((1, 20), "f4")
    write_cube(make_cube(one, one + 1, GRID, obsid=[0]), path, star_chunk=1)
    group = zarr.open_group(path, mode="r+")
    for name in ("flux", "ivar", "mask"):
        group[name].resize((n_blocks, 20))
    group["obsid"].resize((n_blocks,))
    group["obsid"][:] = np.arange(n_blocks)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=20_000)
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    n_blocks = 50 if options.small else options.blocks
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "cube.zarr")
        write_blocks(path, n_blocks)
        with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0") as client:
            memory: list[int] = []
            start = time.perf_counter()
            summary = specxr.run(
                path,
                Nothing(),
                name="a",
                client=client,
                progress=lambda summary: memory.append(process.memory_info().rss),
            )
            seconds = time.perf_counter() - start
    assert summary.complete
    gained = (max(memory) - memory[n_blocks // 100]) / 1e6
    print(f"{n_blocks:,} blocks: {gained:.0f} MB gained, {1e3 * seconds / n_blocks:.1f} ms a block")


if __name__ == "__main__":
    main()
