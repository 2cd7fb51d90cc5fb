"""How spectra of hot stars change with abundances: computed line by line on a grid, for the eleven labels of the paper.

    python recipes/hot_star_grid.py --out responses
    python recipes/hot_star_grid.py --out responses --limits

The recipe needs PySME, which lives in an environment of its own: pip install "specxr[pysme]" there. For each
temperature and gravity of the grid it computes, line by line in LTE, the spectra with 0.3 dex more and less of each
element near the lines of this element. Model atmospheres and line lists come from the folder that the environment
variable SPECXR_SHARED names, unless options say otherwise. A star is a task of a Dask cluster and a file below `--out`;
stars whose files are there are not computed again, so that the recipe goes on where it was stopped. The last step
writes ``hot_star_responses.npz`` (`specxr.synthesis.Responses`). With ``--limits`` it prints the smallest possible
errors (Cramer-Rao) of all labels for such spectra instead, which needs no PySME. Expected time: about a
minute of one core for a star, 24 stars by default; `--small` computes one star in 20 Angstrom in some seconds.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import specxr
from specxr.content import whole_file
from specxr.emulators import default
from specxr.published import hot_star_normalisation
from specxr.published.hot_stars import RECOVERY_AT_SNR_100
from specxr.readers.lamost_lrs import GRID
from specxr.synthesis import EmulatorSpectra, Instrument, Responses, WithAbundances, make_training_set
from specxr.synthesis.atmospheres import read_atmosphere

SHARED = Path(os.environ.get("SPECXR_SHARED", "../shared")) / "data"
ELEMENTS = ("c_fe", "o_fe", "mg_fe", "si_fe", "s_fe", "ca_fe")
TEFF = (7500.0, 8250.0, 9000.0, 10000.0, 11000.0, 13000.0, 15500.0, 19000.0)
LOGG = (3.0, 4.0, 5.0)
STEP = 0.3  # dex
WEAKEST = 0.05  # a ratio of two spectra needs fewer of the lines around than a spectrum
WINDOW = (3700.0, 9100.0)  # Angstrom, air
LOG_STEP = 0.5e-4  # half a pixel of LAMOST
MODELS = ("at12_aaaaa_t08250g4.00.atm", "at12_aaaaa_t10250g5.00.atm")
MICROTURBULENCE = 2.0  # km/s

# The star of the limits, and how much its labels change for derivatives [K, dex, km/s].
STAR = {"logg": 4.0, "feh": 0.0, "vsini": 90.0}
CHANGES = {"teff": 50.0, "logg": 0.05, "feh": 0.05, "vsini": 10.0, **dict.fromkeys(ELEMENTS, 0.1)}


def main(argv: Sequence[str] | None = None) -> None:
    options = _options(argv)
    path = options.out / "hot_star_responses.npz"
    if options.limits:
        print_limits(Responses.read(options.responses or path))
        return
    if find_spec("pysme") is None:
        raise SystemExit(
            "PySME is not installed; it is required to compute spectra. Install it in an environment of its own: "
            'pip install "specxr[pysme]", and run the recipe there.'
        )
    options.out.mkdir(parents=True, exist_ok=True)
    stars = [(teff, logg) for logg in options.logg for teff in options.teff]
    todo = [star for star in stars if not _file(options.out, *star).exists()]
    print(f"{len(stars)} stars, {len(todo)} of them are to be computed", flush=True)
    if len(todo) == 1:
        compute(*todo[0], options)  # one star needs no cluster
    elif todo:
        with specxr.cluster.local(options.workers) as client:
            # PySME's library holds one star of a process.
            futures = [client.submit(compute, *star, options, pure=False) for star in todo]
            for star, future in zip(todo, futures, strict=True):
                print(
                    f"{star[0]:.0f} K, log g {star[1]:.2f}: {future.result():.0f} s of the processor",
                    flush=True,
                )
    write(options.out, sorted(options.teff), sorted(options.logg), path)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def compute(teff: float, logg: float, options: argparse.Namespace) -> float:
    """Compute and write one star; returns the time of the processor [s]."""
    from specxr.synthesis.pysme import PySMESpectra  # only workers have PySME

    begin = time.process_time()
    os.chdir(options.out)  # PySME writes a log of its own where it is called
    low, high = np.log10(options.window)
    edges = 10.0 ** (np.arange(round(low / LOG_STEP), round(high / LOG_STEP) + 1) * LOG_STEP)
    models = [read_atmosphere(options.models / name) for name in MODELS]
    generator = PySMESpectra(models, line_lists(options.lines), edges, weakest=WEAKEST)
    star = {"teff": teff, "logg": logg, "feh": 0.0, "vmic": MICROTURBULENCE}
    with whole_file(_file(options.out, teff, logg)) as draft, draft.open("wb") as file:
        np.savez_compressed(file, edges=edges, change=generator.responses(star, ELEMENTS, STEP).astype("f4"))
    return time.process_time() - begin


def line_lists(paths: Sequence[Path]) -> list[Path]:
    """Files, and the lists of linemake in folders."""
    return [
        file for path in paths for file in (sorted(path.glob("moogatom*.gz")) if path.is_dir() else [path])
    ]


def write(folder: Path, teff: Sequence[float], logg: Sequence[float], path: Path) -> None:
    """Join the stars to responses."""
    change: list[list[NDArray[np.float32]]] = []
    for t in teff:
        change.append([])
        for g in logg:
            with np.load(_file(folder, t, g)) as file:
                edges = file["edges"]
                change[-1].append(file["change"])
    less, more = np.moveaxis(np.array(change), 3, 0)
    slope, curvature = (more - less) / (2.0 * STEP), (more + less) / (2.0 * STEP**2)
    Responses(ELEMENTS, np.array(teff), np.array(logg), edges, slope, curvature).write(path)


def print_limits(responses: Responses) -> None:
    """Print the smallest possible errors of all labels at S/N 100 per pixel, beside the paper's scatter."""
    labels = ("teff", "logg", "feh", "vsini", *responses.elements)
    # The embedded emulator ends at 7,400 Angstrom.
    instrument = Instrument(GRID[40:2950])
    generator = WithAbundances(EmulatorSpectra(default()), responses)
    print("| Teff [K] | " + " | ".join(labels) + " |\n|" + " --- |" * (len(labels) + 1))
    for teff in (8000.0, 9000.0, 10000.0, 12000.0, 14000.0):
        star = {"teff": teff, **STAR, **dict.fromkeys(responses.elements, 0.0)}
        stars = {name: np.full(2 * len(labels), star[name]) for name in labels}
        for i, name in enumerate(labels):
            stars[name][2 * i : 2 * i + 2] += np.array([-0.5, 0.5]) * CHANGES[name]
        cube = make_training_set(stars, generator, instrument, hot_star_normalisation("vacuum"), snr=1e6)
        flux = cube["flux"].values.astype("f8")
        good = (cube["ivar"].values > 0).all(axis=0)
        slopes = (flux[1::2] - flux[::2])[:, good] / np.array([CHANGES[name] for name in labels])[:, None]
        errors = np.sqrt(np.diag(np.linalg.inv(100.0**2 * slopes @ slopes.T)))
        print(f"| {teff:.0f} | " + " | ".join(f"{error:.3g}" for error in errors) + " |")
    scatter = (RECOVERY_AT_SNR_100[name].scatter for name in labels)
    print("| paper, S/N 100 | " + " | ".join(f"{value:g}" for value in scatter) + " |")


def _file(folder: Path, teff: float, logg: float) -> Path:
    return folder / f"star_{teff:05.0f}_{100 * logg:03.0f}.npz"


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("responses"), help="folder for all files (%(default)s)")
    add("--models", type=Path, default=SHARED / "synthesis", help="folder of model atmospheres (%(default)s)")
    add("--lines", type=Path, nargs="+", default=[SHARED / "synthesis"],
        help="line lists in the layout of MOOG, or folders of linemake's; these lack Mg II 4481 and most of Si II, "
        "C II and S II (the folder of atmospheres)")  # fmt: skip
    add("--teff", type=float, nargs="+", default=list(TEFF), help="temperatures [K] (%(default)s)")
    add("--logg", type=float, nargs="+", default=list(LOGG), help="gravities [dex] (%(default)s)")
    add(
        "--window",
        type=float,
        nargs=2,
        default=list(WINDOW),
        help="wavelengths [Angstrom, air] (%(default)s)",
    )
    add("--workers", type=int, default=1, help="processes (%(default)s)")
    add("--limits", action="store_true", help="print the smallest possible errors of the labels")
    add("--responses", type=Path, help="file for --limits; the one below --out by default")
    add("--small", action="store_true", help="one star in a few Angstrom, a run of seconds")
    options = parser.parse_args(argv)
    # Workers change to the folder of the files.
    options.out, options.models = options.out.absolute(), options.models.absolute()
    options.lines = [path.absolute() for path in options.lines]
    if options.small:
        options.teff, options.logg, options.window = [8250.0], [4.0], [4470.0, 4490.0]
    return options


if __name__ == "__main__":
    main()
