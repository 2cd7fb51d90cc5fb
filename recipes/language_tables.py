"""The tables of the language paper for every method on the same rows, split by star, with the paper's own numbers.

The recipe learns from simulations of three sizes (scaling) and, where they are at hand, from spectra of LAMOST DR10
with their official labels, in several splits by star. It prints Table 3 (mean and standard deviation by class), its
robust version by S/N, and the times, and draws the scaling. Our data are not the paper's: 1,177 spectra of A, F and G
stars stand beside its 100,000 of A to M. Tables 5 to 8 need abundances and catalogues that are not at hand here; the
functions of specxr.validation.protocol make them from those of a user. Expected time: twenty minutes on one core;
`--small` takes some seconds.

    python recipes/language_tables.py --out language_tables [--splits 5] [--networks dense,gru]

All files are written below `--out`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr
from matplotlib.figure import Figure

import specxr
from specxr import Regressor
from specxr.cubes.ingestion import ingest
from specxr.emulators import default
from specxr.plotting.style import axis_name, tidy
from specxr.published.language import RESIDUALS_100K
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.synthesis.broadened import BroadenedEmulator
from specxr.synthesis.designs import Uniform, draw
from specxr.synthesis.instrument import Instrument
from specxr.transforms.degrade import degrade
from specxr.validation.protocol import (
    evaluate,
    hold_out_stars,
    pooled,
    residual_statistics,
    same_star,
    scaling,
    table_of,
)

LABELS = ("teff", "logg", "feh")
BOX = {"teff": Uniform(4000, 12000), "logg": Uniform(2.0, 5.0), "feh": Uniform(-2.0, 0.4)}
SIZES = (1000, 5000, 20_000)
TEST = 1000
S_N_BINS = ((10.0, 30.0), (30.0, 80.0), (80.0, np.inf))


def simulated(n: int, seed: int) -> xr.Dataset:
    """Spectra like LAMOST's, 3,800 to 7,250 Angstrom, without noise, with velocities up to 150 km/s."""
    grid = Grid(
        10.0 ** (np.arange(35798, 38604) * 1e-4), "vacuum", "log10", 1e-4, LineSpread.constant(1800.0)
    )
    rng = np.random.default_rng(seed)
    return BroadenedEmulator(default(), Instrument(grid)).cube(draw(BOX, n, seed), rng.uniform(-150, 150, n))


def scaling_table(sizes: Sequence[int], networks: dict[str, Regressor]) -> pd.DataFrame:
    """Statistics of simulated stars that were not learnt, for each number of spectra."""
    test = simulated(TEST if len(sizes) > 1 else 60, 1)
    snr = np.exp(np.random.default_rng(2).uniform(np.log(10), np.log(100), test.sizes["star"]))
    test = degrade(test, snr)
    evaluations = {}
    for size in sizes:
        cube = xr.concat([simulated(size, 0), test], "star", combine_attrs="drop_conflicts")
        cube = cube.assign_coords(obsid=("star", np.arange(cube.sizes["star"])))
        held = np.arange(cube.sizes["star"]) >= size
        teff = cube["teff"].values
        classes = np.select([teff > 7300, teff > 6000, teff > 5300], ["A", "F", "G"], "K")
        evaluations[size] = evaluate(
            cube, networks, held, LABELS, classes=classes, snr=np.full(len(teff), 50.0)
        )
    return scaling(evaluations, LABELS)


def real(shared: Path, splits: int, step: int, networks: dict[str, Regressor]) -> None:
    """Print the tables of LAMOST DR10."""
    with tempfile.TemporaryDirectory() as folder:
        files = sorted((shared / "lamost_dr10/fits").glob("*.fits.gz"))[::step]
        ingest("lamost-lrs", files, Path(folder) / "cube.zarr")
        cube = specxr.open_cube(Path(folder) / "cube.zarr").load()
    table = pd.read_csv(shared / "lamost_dr10/labels.csv").set_index("obsid").loc[cube.obsid.values]
    cube = cube.assign({name: ("star", table[name].to_numpy()) for name in LABELS})
    bright = (table.snrg > 10).to_numpy()
    cube, table = cube.isel(star=bright), table[bright]
    star = same_star(table.ra, table.dec)
    one = pooled(
        [
            evaluate(
                cube, networks, hold_out_stars(star, 0.3, split), LABELS, classes=table.type, snr=table.snrg
            )
            for split in range(splits)
        ]
    )
    print(
        "\nTable 3: mean and standard deviation, ours of S/N_g > 10 split by star, the paper's of its own data"
    )
    show(table_of(residual_statistics(one, LABELS), published=RESIDUALS_100K))
    print("\nMean and robust scatter (1.48 MAD), by S/N_g")
    for snr in S_N_BINS:
        print(f"S/N_g {snr[0]:g} to {snr[1]:g}")
        show(table_of(residual_statistics(one, LABELS, snr=snr), "scatter"))
    print("\nTraining [processor s] and rate of inference [stars/s]")
    print(one.times.round(1).to_string(index=False))


def show(table: pd.DataFrame) -> None:
    """Print one block for each label."""
    for label in dict.fromkeys(label for label, _ in table.columns):
        print(f"[{label}]\n{table[label].to_string()}")


def drawn(table: pd.DataFrame) -> Figure:
    """Scatter of F and G stars against the number of spectra."""
    figure = Figure(figsize=(9.0, 3.2), layout="constrained")
    for ax, label in zip(figure.subplots(1, 3), LABELS, strict=True):
        for method, rows in table[(table.label == label) & (table["class"] == "G")].groupby(
            "method", sort=False
        ):
            ax.loglog(rows.spectra, rows.scatter, "o-", ms=4, label=method)
        ax.set_xlabel("training spectra")
        ax.set_ylabel(axis_name(label, "scatter of G stars: "))
        tidy(ax)
    ax.legend(fontsize=7)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("language_tables"), help="folder for all files (%(default)s)"
    )
    parser.add_argument(
        "--shared",
        type=Path,
        default=Path(os.environ.get("SPECXR_SHARED", "../shared")) / "data",
        help="folder of shared data; without it, simulations alone are used (%(default)s)",
    )
    parser.add_argument("--splits", type=int, default=5, help="number of splits by star (%(default)s)")
    parser.add_argument(
        "--networks",
        default="dense",
        help="methods beside ridge and kernel ridge, with commas (%(default)s)",
    )
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    networks = {name: Regressor(network=name) for name in options.networks.split(",")}
    if options.small:
        networks = {name: replace(one, epochs=1, members=1, hidden=(16, 8)) for name, one in networks.items()}
    table = scaling_table((200,) if options.small else SIZES, networks)
    table.to_csv(options.out / "scaling.csv", index=False)
    drawn(table).savefig(options.out / "scaling.png", dpi=150)
    print("Simulations: mean and robust scatter (1.48 MAD) by class")
    for size, rows in table.groupby("spectra"):
        print(f"{size} training spectra")
        show(table_of(rows, "scatter"))
    if options.shared.exists():
        real(options.shared, 1 if options.small else options.splits, 16 if options.small else 1, networks)
    else:
        print(f"{options.shared} is absent: no tables of real spectra")


if __name__ == "__main__":
    main()
