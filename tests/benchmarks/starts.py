"""Print how labels depend on where fits begin, for `lm` and `adam` (Liang et al. 2025, section 4.2.2).

    python tests/benchmarks/starts.py [--shared ../shared] [--stars 300] [--templates]

It fits spectra of LAMOST DR10 of all types: `lm` fits all, `adam` the first ``--stars`` of a random order.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from specxr import LASP
from specxr.estimators.base import Block
from specxr.estimators.lasp.fit import Fitter
from specxr.estimators.lasp.solvers import solve_lm
from specxr.kernels.least_squares import LANES
from specxr.published.lasp import FIXED_START, HOT_START, START_TOLERANCES
from specxr.readers.lamost_lrs import GRID, read_spectrum

BEGIN = {"5000 K": FIXED_START, "7500 K": HOT_START}


def compare(a: dict, b: dict) -> str:
    far = [abs(a[name] - b[name]) > START_TOLERANCES[name] for name in ("teff", "logg", "rv")]
    moved = np.any(far, axis=0)
    shown = "  ".join(
        f"{name} {np.nanmedian(a[name] - b[name]):+.4f} {np.nanstd(a[name] - b[name]):.4f}"
        for name in ("rv", "teff", "logg", "feh")
    )
    return f"median, std: {shown};  beyond 100 K, 0.1 dex or 1 km/s: {moved.sum()} of {len(moved)} ({moved.mean():.2%})"


def templates(lasp: LASP, block: Block, table: pd.DataFrame) -> None:
    """Fit each star from its best template at each temperature, and print which starts reach the lowest cost."""
    prepared = lasp.prepare(GRID)
    observed = lasp.observe(block)
    starts, tried = prepared.coarse.starts(observed.flux, observed.sqrt_weight)
    fitter = Fitter(prepared, solve_lm, LANES["cpu"])
    star = torch.arange(len(starts)).repeat_interleave(starts.shape[1])
    cost = fitter.solve(observed.flux, observed.sqrt_weight, star, starts.flatten(0, 1), 1e-6).cost.view(
        tried.shape
    )
    reached = (cost <= cost.amin(1, keepdim=True) * (1 + 1e-4)).numpy()
    for name, rows in {
        "A": (table.type == "A"),
        "A, S/N_g > 30": (table.type == "A") & (table.snrg > 30),
        "F, G": table.type != "A",
    }.items():
        ours, own = reached[rows.to_numpy()[observed.star]], tried.numpy()[rows.to_numpy()[observed.star]]
        print(
            f"{name}: {len(ours)} stars; lowest cost of {tried.shape[1]} starts reached from the best template by"
            f" {ours[:, 0].mean():.1%}, from those that LASP tries by {(ours & own).any(1).mean():.1%}"
        )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("SPECXR_SHARED", "../shared")))
    parser.add_argument("--stars", type=int, default=300)
    parser.add_argument(
        "--templates", action="store_true", help="only which templates lead to the lowest cost"
    )
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    shared = options.shared / "data"
    if not shared.exists():
        raise SystemExit(
            f"{shared} is absent; the shared data are required. Set SPECXR_SHARED or give --shared."
        )
    table = pd.read_csv(shared / "lamost_dr10/labels.csv").sample(frac=1, random_state=1)
    if options.small:
        table, options.stars = table.head(9), 0
    spectra = [read_spectrum(shared / "lamost_dr10/fits" / name) for name in table.file]
    everyone = [np.stack([getattr(s, name) for s in spectra]) for name in ("flux", "ivar", "mask")]
    emulator = shared / "elodie/elodie32_flux_tgm_4199_5700.fits"
    if options.templates:
        templates(LASP(emulator), Block(GRID, *everyone), table)
        return
    if options.small:
        templates(LASP(emulator), Block(GRID, *everyone), table)
    for solver, n_star in (("lm", len(spectra)), ("adam", options.stars)):
        if not n_star:
            continue
        block = Block(GRID, *(array[:n_star] for array in everyone))
        own = LASP(emulator, solver=solver).estimate(block)
        given = {
            name: LASP(emulator, solver=solver, start=start).estimate(block) for name, start in BEGIN.items()
        }
        for kind in ("all", "A", "F", "G"):
            rows = np.ones(n_star, bool) if kind == "all" else (table.type == kind).to_numpy()[:n_star]
            if not rows.any():
                continue
            fits = {name: {k: v[rows] for k, v in out.items()} for name, out in {"own": own, **given}.items()}
            print(f"{solver:4s} {kind:3s} 5000 K - 7500 K       {compare(fits['5000 K'], fits['7500 K'])}")
            for name in BEGIN:
                print(f"{solver:4s} {kind:3s} {name} - own start   {compare(fits[name], fits['own'])}")


if __name__ == "__main__":
    main()
