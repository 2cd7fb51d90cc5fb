"""Print how fast a GPU fits, how far its labels are from those of the CPU, and the memory that it takes.

    python tests/benchmarks/gpu.py [--minutes 8] [--small]

Rows: LASP (lm, adam; No Clean, Clean), The Payne and SLAM; single and double precision; 1,000 to 100,000 stars. Spectra
are those of tests/benchmarks/lasp.py and of small training sets. Rows that would not end within the time are left out,
and said to be. Wall seconds, the second of two runs; differences are in standard errors, of the first 1,000 stars, over
stars that converged on both.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from lasp import block_for
from support.trained import observed, spectra_with_labels

from specxr import LASP, SLAM, Payne
from specxr.estimators.base import Block, Estimator

STARS = (1000, 10000, 100000)
PRECISION = ("float64", "float32")


def first(block: Block, n: int) -> Block:
    return Block(block.grid, block.flux[:n], block.ivar[:n], block.mask[:n])


def repeated(block: Block, n: int) -> Block:
    times = -(-n // len(block.flux))
    arrays = (np.tile(array, (times, 1))[:n] for array in (block.flux, block.ivar, block.mask))
    return Block(block.grid, *arrays)


def jobs() -> Iterator[tuple[str, Estimator, Block]]:
    """Name, estimator for the CPU, and spectra, of every table."""
    stars = block_for("cool", 1000, Path())
    for solver in ("lm", "adam"):
        for clean in (False, True):
            yield f"LASP {solver} {'Clean' if clean else 'No Clean'}", LASP(solver=solver, clean=clean), stars
    training, held = spectra_with_labels(400), observed(spectra_with_labels(500, seed=1), 100)
    yield "The Payne", Payne(max_rounds=20).fit(training), held
    yield "SLAM", SLAM(loss="squared").fit(training), held


def difference(here: Estimator, there: Estimator, block: Block) -> float:
    """Largest difference of a label between two estimators [standard errors]."""
    a, b = here.estimate(block), there.estimate(block)
    both = (a["result"] == 0) & (b["result"] == 0)
    return max(float(np.max(abs(a[n] - b[n])[both] / a[f"{n}_err"][both], initial=0.0)) for n in here.labels)


def timed(estimator: Estimator, block: Block) -> float:
    for _ in range(2):
        start = time.perf_counter()
        estimator.estimate(block)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    return seconds


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--small", action="store_true", help="only whether there is a GPU to measure on")
    options = parser.parse_args(argv)
    if not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU; one is required to measure. Run this where there is one.")
    torch.set_num_threads(1)
    end = time.perf_counter() + 60 * options.minutes
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    print("fit                    dtype       stars   stars/s  peak [MB]  largest difference to the CPU")
    for name, estimator, block in jobs():
        for dtype in PRECISION:
            own, last = replace(estimator, device="cuda", dtype=dtype), 0.0
            far = difference(replace(estimator, dtype=dtype), own, first(block, 1000))
            for n in STARS:
                if time.perf_counter() + 2.5 * last * 10 > end:
                    print(f"{name:22s} {dtype:8s} {n:8,d}   left out: the time is over")
                    continue
                torch.cuda.reset_peak_memory_stats()
                last = timed(own, repeated(block, n))
                peak = torch.cuda.max_memory_allocated() / 2**20
                print(f"{name:22s} {dtype:8s} {n:8,d} {n / last:9,.0f} {peak:10,.0f} {far:10.2g}", flush=True)


if __name__ == "__main__":
    main()
