"""Print how fast LASP fits: stars a second on one thread, for each solver, Clean and No Clean, and peak memory.

    python tests/benchmarks/lasp.py [--emulator FILE] [--device cuda]

Spectra are simulated with the emulator: 4200-5700 A on LAMOST's grid, S/N 50, 4600-7400 K, 1 % of the pixels hit by
something to clean. Each row is a process of its own, so that its peak memory is its own. Times are CPU seconds (on
a GPU: wall seconds), the best of three for up to 1,000 stars. The slow solvers fit fewer stars.
"""

import argparse
import itertools
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.simulated import block_of, spectra

from specxr import LASP

STARS = {"lm": (1, 100, 1000, 10000), "adam": (64,), "curve_fit": (32,)}


def measure(emulator: str, device: str, solver: str, clean: bool, dtype: str, n_star: int) -> str:
    torch.set_num_threads(1)
    base, _ = spectra(min(n_star, 500), seed=1, snr=50)
    flux = np.tile(base, (-(-n_star // len(base)), 1))[:n_star]
    rng = np.random.default_rng(2)
    flux = flux * rng.normal(1, 0.01, flux.shape)
    flux[rng.uniform(size=flux.shape) < 0.01] *= 1.3
    block = block_of(flux)
    del flux
    lasp = LASP(emulator, clean=clean, solver=solver, dtype=dtype, device=device)
    lasp.prepare(block.grid)
    clock = time.process_time if device == "cpu" else time.perf_counter
    seconds = []
    for _ in range(3 if n_star <= 1000 and solver == "lm" else 1):
        start = clock()
        out = lasp.estimate(block)
        seconds.append(clock() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (
        f"{solver:9s} {'Clean' if clean else 'No Clean':8s} {dtype:7s} {n_star:7,d} {n_star / min(seconds):9,.0f}"
        f" {1e3 * min(seconds) / n_star:9.3f} {out['n_iter'].mean():7.1f} {peak / 1024:9,.0f}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--emulator", default="default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--row", nargs=4, metavar=("SOLVER", "CLEAN", "DTYPE", "STARS"), help=argparse.SUPPRESS
    )
    parser.add_argument("--small", action="store_true", help="one row of few stars, in this process")
    options = parser.parse_args(argv)
    if options.small:
        options.row = ("lm", "clean", "float64", "8")
    if options.row:
        solver, clean, dtype, n_star = options.row
        print(measure(options.emulator, options.device, solver, clean == "clean", dtype, int(n_star)))
        return
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread, load {load}")
    print("solver    pixels   dtype     stars   stars/s   ms/star   evals  peak [MB]")
    for solver, clean, dtype in itertools.product(STARS, ("no", "clean"), ("float64", "float32")):
        if solver == "curve_fit" and dtype == "float32":  # scipy's steps are too small for single precision
            continue
        for n_star in STARS[solver]:
            row = ["--emulator", options.emulator, "--device", options.device]
            row += ["--row", solver, clean, dtype, str(n_star)]
            done = subprocess.run(
                [sys.executable, __file__, *row], check=True, capture_output=True, text=True
            )
            print(done.stdout, end="", flush=True)


if __name__ == "__main__":
    main()
