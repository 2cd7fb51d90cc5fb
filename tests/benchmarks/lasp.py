"""Print how fast LASP fits: stars a second on one thread, by precision and number of stars, and peak memory.

    python tests/benchmarks/lasp.py [--emulator FILE]

Spectra are simulated with the emulator itself: 4200-5700 A on LAMOST's grid, S/N 50, 4300-7500 K. Each row is a
process of its own, so that its peak memory is its own; times are the best of three.
"""

import argparse
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from simulated import block_of, spectra

from specxr import LASP


def measure(emulator: str, dtype: str, n_star: int) -> str:
    torch.set_num_threads(1)
    base, _ = spectra(min(n_star, 500), seed=1, snr=50)
    flux = np.tile(base, (-(-n_star // len(base)), 1))[:n_star]
    flux = flux * np.random.default_rng(2).normal(1, 0.01, flux.shape)
    block = block_of(flux)
    del flux
    lasp = LASP(emulator, dtype=dtype)
    start = time.perf_counter()
    lasp.prepare(block.grid)
    prepare = time.perf_counter() - start
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(3 if n_star <= 1000 else 1):
        start = time.perf_counter()
        out = lasp.estimate(block)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (
        f"{dtype:8s} {n_star:7,d} {n_star / min(seconds):10,.0f} {1e3 * min(seconds) / n_star:9.3f}"
        f" {out['n_iter'].mean():7.1f} {prepare:8.2f} {peak / 1024:9,.0f} {(peak - before) / 1024:9,.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--emulator", default="default")
    parser.add_argument("--row", nargs=2, metavar=("DTYPE", "STARS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(measure(options.emulator, options.row[0], int(options.row[1])))
        return
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread")
    print("dtype      stars    stars/s   ms/star  evals  prepare  peak [MB]  fit adds")
    for dtype in ("float64", "float32"):
        for n_star in (1, 100, 1000, 10000):
            row = [sys.executable, __file__, "--emulator", options.emulator, "--row", dtype, str(n_star)]
            print(subprocess.run(row, check=True, capture_output=True, text=True).stdout, end="", flush=True)


if __name__ == "__main__":
    main()
