"""LASP labels of real LAMOST spectra, against the official ones.

What `specxr ingest`, `infer`, `export` and `compare` do, from Python, with figures. Without arguments it takes the
1,177 LAMOST DR10 spectra and the ELODIE emulator in the folder that the environment variable SPECXR_SHARED names:

    python recipes/lamost_lasp.py --out lamost_lasp

The official labels need the columns obsid, teff, logg, feh, type (A, F, G) and snrg.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd

import specxr
from specxr.cubes.ingestion import ingest
from specxr.cubes.tables import label_table, read_table, write_table
from specxr.plotting import plot_comparison, plot_fit, plot_kiel
from specxr.validation import match, robust_scatter

SHARED = Path(os.environ.get("SPECXR_SHARED", "../shared")) / "data"
LEAST_SNR = (
    50.0  # of the stars that are compared; the official labels of fainter ones are less certain than ours
)


def main() -> None:
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "cube.zarr"

    report = ingest("lamost-lrs", options.spectra, path, mode="overwrite")
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
    for kelvin, some in joined.groupby(joined["teff_b"] // 1000 * 1000):
        print(f"{kelvin:6.0f} K: {_differences(some)}")


def _differences(joined: pd.DataFrame) -> str:
    parts = [f"{len(joined):4d} stars"]
    for label, digits in (("teff", 0), ("logg", 3), ("feh", 3)):
        difference = (joined[f"{label}_a"] - joined[f"{label}_b"]).dropna()
        parts.append(f"{label} {np.median(difference):+.{digits}f} ± {robust_scatter(difference):.{digits}f}")
    return ", ".join(parts)


def _draw(out: Path, cube, table: pd.DataFrame, official: pd.DataFrame) -> None:
    plot_kiel(table[table["result"] == "converged"]).figure.savefig(out / "kiel.png", dpi=150)
    plot_comparison(table, official, names=("specxr", "official")).savefig(out / "comparison.png", dpi=150)
    # A star of middling signal-to-noise ratio: the best ones hide what a fit usually looks like.
    cool = official[official["type"] == "G"]
    obsid = cool.loc[(cool["snrg"] - 80.0).abs().idxmin(), "obsid"]
    star = int(np.flatnonzero(cube["obsid"].values == obsid)[0])
    labels = specxr.open_labels(out / "cube.zarr", "lasp").isel(star=star)
    row = table.iloc[star]
    plot_fit(
        cube["wavelength"], cube["flux"][star], labels["model"], labels["used"],
        title=f"LAMOST {obsid}: {row['teff']:.0f} ± {row['teff_err']:.0f} K, log g {row['logg']:.2f}, "
        f"[Fe/H] {row['feh']:+.2f}, RV {row['rv']:.1f} km/s",
        medium="vacuum",
    ).savefig(out / "fit.png", dpi=150)  # fmt: skip


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--spectra", type=Path, default=SHARED / "lamost_dr10" / "fits", help="files or a folder"
    )
    parser.add_argument(
        "--labels", type=Path, default=SHARED / "lamost_dr10" / "labels.csv", help="official labels"
    )
    parser.add_argument("--emulator", default=SHARED / "elodie" / "elodie32_flux_tgm_4199_5700.fits")
    parser.add_argument(
        "--out", type=Path, default=Path("lamost_lasp"), help="folder for the cube and the figures"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
