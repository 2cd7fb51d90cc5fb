"""LASP labels of real LAMOST spectra, compared with the official ones.

The recipe does in Python what `specxr ingest`, `infer`, `export` and `compare` do, and draws figures. Without arguments
it takes the 1,177 LAMOST DR10 spectra and the ELODIE emulator in the folder that the environment variable SPECXR_SHARED
names. Expected time: one minute on one core; `--small` takes some seconds.

    python recipes/lamost_lasp.py --out lamost_lasp

The official labels need the columns obsid, teff, logg, feh, type (A, F, G) and snrg. All files are written below
`--out`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import specxr
from specxr.cubes.ingestion import ingest
from specxr.cubes.tables import label_table, read_table, write_table
from specxr.plotting import plot_comparison, plot_fit, plot_kiel, save_figure
from specxr.validation import match, robust_scatter

SHARED = Path(os.environ.get("SPECXR_SHARED", "../shared")) / "data"
# Least S/N in the band g of the stars that are compared: official labels of fainter stars are less certain than ours.
LEAST_SNR = 50.0


def main(argv: Sequence[str] | None = None) -> None:
    options = _options(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "cube.zarr"

    spectra = sorted(options.spectra.glob("*.fits.gz"))[::100] if options.small else options.spectra
    report = ingest("lamost-lrs", spectra, path, mode="overwrite")
    print(
        f"{report.n_written} stars, {len(report.failures)} files without a spectrum, {report.seconds:.1f} s"
    )
    cube = specxr.open_cube(path)
    lasp = specxr.LASP(options.emulator)
    labels = specxr.infer(cube.chunk(star=256), lasp, spectra=True)  # lazy
    specxr.write_labels(path, labels, "lasp", overwrite=True)  # computed here
    table = label_table(specxr.open_labels(path, "lasp"))
    write_table(table, options.out / "lasp.csv", overwrite=True)
    print(table["result"].value_counts().to_string())

    official = read_table(options.labels)
    official = official[official["snrg"] > LEAST_SNR]
    _print_types(table, official)
    _print_hot(table, official)
    _draw(options.out, cube, table, official)


def _print_types(table: pd.DataFrame, official: pd.DataFrame) -> None:
    print(f"\nours - official, median ± 1.48 MAD, S/N_g > {LEAST_SNR:.0f}")
    for kind in ("G", "F", "A"):
        print(f"{kind}: {_differences(match(table, official[official['type'] == kind]))}")


def _print_hot(table: pd.DataFrame, official: pd.DataFrame) -> None:
    print("A stars by official Teff")
    joined = match(table, official[official["type"] == "A"])
    for kelvin, stars in joined.groupby(joined["teff_b"] // 1000 * 1000):
        print(f"{kelvin:6.0f} K: {_differences(stars)}")


def _differences(joined: pd.DataFrame) -> str:
    parts = [f"{len(joined):4d} stars"]
    for label, digits in (("teff", 0), ("logg", 3), ("feh", 3)):
        difference = (joined[f"{label}_a"] - joined[f"{label}_b"]).dropna()
        parts.append(f"{label} {difference.median():+.{digits}f} ± {robust_scatter(difference):.{digits}f}")
    return ", ".join(parts)


def _draw(out: Path, cube: xr.Dataset, table: pd.DataFrame, official: pd.DataFrame) -> None:
    save_figure(plot_kiel(table[table["result"] == "converged"]), out / "kiel.png")
    save_figure(plot_comparison(table, official, names=("specxr", "official")), out / "comparison.png")
    # A star of a typical signal-to-noise ratio shows what a fit usually looks like.
    cool = official[(official["type"] == "G") & official["obsid"].isin(table["obsid"])]
    obsid = cool.loc[(cool["snrg"] - 80.0).abs().idxmin(), "obsid"]
    star = int(np.flatnonzero(cube["obsid"].values == obsid)[0])
    labels = specxr.open_labels(out / "cube.zarr", "lasp").isel(star=star)
    row = table.iloc[star]
    fit = plot_fit(
        cube["wavelength"], cube["flux"][star], labels["model"], labels["used"],
        title=f"LAMOST {obsid}: {row['teff']:.0f} ± {row['teff_err']:.0f} K, log g {row['logg']:.2f}, "
        f"[Fe/H] {row['feh']:+.2f}, RV {row['rv']:.1f} km/s",
        medium="vacuum",
    )  # fmt: skip
    save_figure(fit, out / "fit.png")


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = SHARED / "lamost_dr10"
    add = parser.add_argument
    add("--spectra", type=Path, default=data / "fits", help="folder of FITS files (%(default)s)")
    add("--labels", type=Path, default=data / "labels.csv", help="official labels (%(default)s)")
    add(
        "--emulator",
        default=SHARED / "elodie" / "elodie32_flux_tgm_4199_5700.fits",
        help='file of the emulator, or "default" (%(default)s)',
    )
    add("--out", type=Path, default=Path("lamost_lasp"), help="folder for all files (%(default)s)")
    add("--small", action="store_true", help="a run of a few stars that only shows that the recipe works")
    options = parser.parse_args(argv)
    if not options.labels.exists():
        raise SystemExit(
            f"{options.labels} is absent; official labels are required. Set SPECXR_SHARED or give --labels."
        )
    return options


if __name__ == "__main__":
    main()
