"""Print what the line width of the embedded emulator costs, and the labels it finds on two other sets of spectra.

    python tests/benchmarks/emulators.py

The embedded emulator is sharpened from MILES' lines (FWHM 2.54 Angstrom) to R = 3000. The first table fits LAMOST DR10
with it, with the same emulator brought back to MILES' lines, and with ELODIE's. The second fits STELIB's spectra of
stars of MILES (FWHM 3.4 Angstrom), and the third the M dwarfs of LAMOST DR1, with the embedded emulator and ELODIE's.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr

import specxr
from specxr.cubes.ingestion import ingest
from specxr.cubes.schema import make_cube
from specxr.emulators import PolynomialEmulator, default, open_emulator
from specxr.kernels.rebin import rebin
from specxr.spectra.grid import Grid
from specxr.validation import robust_scatter

SHARED = Path(os.environ.get("SPECXR_SHARED", "../shared")) / "data"
ELODIE = SHARED / "elodie" / "elodie32_flux_tgm_4199_5700.fits"
LABELS = ("teff", "logg", "feh")
MILES_FWHM = 2.54  # Angstrom
# The ELODIE emulator ends one pixel before LASP's own window does, in air.
WINDOW, BLUE = (4210.0, 5690.0), (4210.0, 4500.0)
# Both windows, with about as many coefficients of the polynomial for an Angstrom.
WINDOWS = ((WINDOW, 50), (BLUE, 10))
LEAST_WIDTH = 1.01  # times the least width of a run: such a star ended there


def as_broad_as_miles(emulator: PolynomialEmulator) -> PolynomialEmulator:
    """The emulator with lines of MILES' FWHM, which are broader than its own at all wavelengths of LASP's window."""
    step = np.log(emulator.edges[1] / emulator.edges[0])
    centre = np.sqrt(emulator.edges[1:] * emulator.edges[:-1])
    width = np.sqrt(np.maximum((MILES_FWHM / centre) ** 2 - emulator.resolving_power**-2.0, 0.0))
    sigma = width / np.sqrt(8.0 * np.log(2.0)) / step
    rows = emulator.coefficients.reshape(-1, centre.size).astype("f8")
    offset = np.arange(-40, 41)
    kernel = np.exp(-0.5 * (offset / np.maximum(sigma, 0.2)[:, None]) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    column = np.clip(np.arange(centre.size)[:, None] + offset, 0, centre.size - 1)
    broad = np.stack([(kernel * row[column]).sum(axis=1) for row in rows])
    return replace(
        emulator, coefficients=broad.reshape(emulator.coefficients.shape), resolving_power=None, source=None
    )


def spread(difference: np.ndarray) -> str:
    columns = zip(difference.T, (0, 3, 3), strict=True)
    return ", ".join(f"{np.nanmedian(c):+.{d}f} +- {robust_scatter(c):.{d}f}" for c, d in columns)


def fit(
    cube: xr.Dataset, emulator: PolynomialEmulator, window: tuple[float, float], degree: int
) -> pd.DataFrame:
    labels = specxr.infer(cube, specxr.LASP(emulator, window=window, degree=degree))
    return labels[[*LABELS, "sigma", "chi2", "result"]].to_dataframe().reset_index(drop=True)


def line_width(
    cube: xr.Dataset,
    table: pd.DataFrame,
    emulators: dict[str, PolynomialEmulator],
    windows: Sequence[tuple[tuple[float, float], int]],
) -> None:
    """Print shares that converged and that end at the least width, and differences from the official labels."""
    cool = (table["type"].isin(["F", "G"]) & (table["snrg"] > 50)).to_numpy()
    print(
        "LAMOST DR10: window, emulator, converged, F and G stars at the least width, inferred - official of these"
    )
    for window, degree in windows:
        for name, emulator in emulators.items():
            found = fit(cube, emulator, window, degree)
            good = (found["result"] == 0).to_numpy()
            rows = cool & good
            least = (found["sigma"] < LEAST_WIDTH * found["sigma"].min()).to_numpy()
            difference = (found[list(LABELS)] - table[list(LABELS)]).to_numpy()[rows]
            print(
                f"  {window[0]:.0f}-{window[1]:.0f}  {name:20s} {good.mean():.1%}  {least[cool].mean():.1%}  "
                f"{spread(difference)}",
                flush=True,
            )


def stelib(emulators: dict[str, PolynomialEmulator]) -> None:
    """Print labels of STELIB's spectra minus MILES' own labels of the same stars, by temperature."""
    with np.load(SHARED / "stelib" / "stelib_v3.2_all.npz", allow_pickle=True) as file:
        labels, flux, centre = file["teff_logg_feh_from_miles"], file["flux"], file["wave_air"]
    known = np.isfinite(labels).all(axis=1)
    labels, flux = labels[known], flux[known].astype("f8")
    index = np.arange(np.ceil(np.log10(4150.0) * 1e4), np.floor(np.log10(5800.0) * 1e4))
    onto = 10.0 ** (index * 1e-4)
    flux = rebin(torch.from_numpy(flux), np.append(centre - 0.5, centre[-1] + 0.5), onto).numpy()
    good = np.isfinite(flux) & (flux > 0)
    grid = Grid(10.0 ** ((index[:-1] + 0.5) * 1e-4), "air", "log10", 1e-4)
    cube = make_cube(
        np.where(good, flux, 0.0).astype("f4"), good.astype("f4"), grid, obsid=np.arange(len(flux))
    )
    print("\nSTELIB: Teff, emulator, converged, inferred - MILES' own labels")
    for low, high in ((3500, 5000), (5000, 6500), (6500, 9500)):
        rows = (labels[:, 0] >= low) & (labels[:, 0] < high)
        for name, emulator in emulators.items():
            found = fit(cube.isel(star=rows), emulator, WINDOW, 50)
            converged = (found["result"] == 0).to_numpy()
            difference = (found[list(LABELS)].to_numpy() - labels[rows])[converged]
            print(f"  {low}-{high}  {name:20s} {converged.sum()} of {rows.sum()}  {spread(difference)}")


def m_dwarfs(folder: Path, emulators: dict[str, PolynomialEmulator]) -> None:
    """Print the ranges of labels of the M dwarfs of LAMOST DR1, and the cost compared with the first emulator's."""
    ingest("lamost-lrs", SHARED / "lamost_dr1" / "fits", folder / "dr1.zarr", workers=1)
    cube = specxr.open_cube(folder / "dr1.zarr").load()
    cube = cube.isel(star=[str(kind).startswith("M") for kind in cube["subclass"].values])
    print(
        f"\n{cube.sizes['star']} M stars of LAMOST DR1: emulator, converged, 10, 50 and 90 % of each label, cost"
    )
    first = None
    for name, emulator in emulators.items():
        found = fit(cube, emulator, WINDOW, 50)
        first = found["chi2"] if first is None else first
        good = found[found["result"] == 0]
        cells = [
            "/".join(f"{value:.{d}f}" for value in np.percentile(good[label], [10, 50, 90]))
            for label, d in zip(LABELS, (0, 2, 2), strict=True)
        ]
        print(f"  {name:20s} {len(good)}  {'  '.join(cells)}  {np.median(found['chi2'] / first):.3f}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if not SHARED.is_dir():
        sys.exit(f"{SHARED} is absent; the shared data are required. Set SPECXR_SHARED.")
    embedded, elodie = default(), open_emulator(ELODIE)
    pair = {"embedded": embedded, "ELODIE": elodie}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary)
        files = sorted((SHARED / "lamost_dr10" / "fits").glob("*.fits.gz"))[:: 100 if options.small else 1]
        ingest("lamost-lrs", files, path / "dr10.zarr", workers=1)
        cube = specxr.open_cube(path / "dr10.zarr").load()
        table = (
            pd.read_csv(SHARED / "lamost_dr10" / "labels.csv").set_index("obsid").loc[cube["obsid"].values]
        )
        broad = {"embedded": embedded, "as broad as MILES": as_broad_as_miles(embedded), "ELODIE": elodie}
        line_width(cube, table.reset_index(), broad, WINDOWS[1:] if options.small else WINDOWS)
        if not options.small:
            stelib(pair)
            m_dwarfs(path, pair)


if __name__ == "__main__":
    main()
