"""Print how well a data-driven estimator predicts the official labels of LAMOST stars that it has not seen.

    python tests/benchmarks/real_stars.py [--estimator payne|slam|ridge] [--seeds 3]

It uses the F and G stars of the shared DR10 spectra with official labels and S/N_g > 30. Of these 60 % are learnt, at
rest by the official redshift, and the labels of the others are predicted from the spectra as observed. The robust
scatter of those with S/N_g > 50 should be at most 60 K, 0.10 and 0.06 dex. A and F stars by models of hot stars are in
`hot_stars.py`.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
import xarray as xr

import specxr
from specxr.cubes.ingestion import ingest
from specxr.published import hot_star_normalisation
from specxr.validation import robust_scatter
from specxr.vocabulary import SPEED_OF_LIGHT

SHARED = (
    Path(os.environ.get("SPECXR_SHARED", Path(__file__).parents[2] / ".." / "shared"))
    / "data"
    / "lamost_dr10"
)
LABELS = ("teff", "logg", "feh")
ESTIMATORS = {
    # Hundreds of noisy spectra do not constrain more than one layer of few neurons.
    "payne": lambda seed: specxr.Payne(hidden=(16,), seed=seed),
    "slam": lambda seed: specxr.SLAM(seed=seed),
    "ridge": lambda seed: specxr.SLAM(
        loss="squared", c=(0.01, 0.1, 1.0, 10.0), gamma=(0.01, 0.1, 1.0), seed=seed
    ),
}
NORMALISATION_SCALE = 50.0  # Angstrom


def observed(small: bool) -> xr.Dataset:
    """The spectra with their official labels."""
    table = pd.read_csv(SHARED / "labels.csv")
    if small:
        table = table[table["snrg"] > 60].groupby("type").head(25)
    with TemporaryDirectory() as folder:
        ingest("lamost-lrs", [SHARED / "fits" / file for file in table["file"]], Path(folder) / "cube.zarr")
        cube = specxr.open_cube(Path(folder) / "cube.zarr").load()
    table = table.set_index("obsid").loc[cube["obsid"].values]
    official = {name: ("star", table[name].to_numpy("f8")) for name in (*LABELS, "snrg", "z")}
    return cube.assign({**official, "type": ("star", table["type"].to_numpy(object))})


def data_driven(cube: xr.Dataset, name: str, seed: int) -> None:
    """Train on 60 % of the F and G stars, predict the others."""
    fit = (
        np.isin(cube["type"].values, ["F", "G"])
        & (cube["snrg"].values > 30)
        & np.isfinite(cube["teff"].values)
    )
    cube = cube.isel(star=fit).sel(wavelength=slice(4200, 5700))
    order = np.random.default_rng(seed).permutation(cube.sizes["star"])
    learnt, rest = np.split(order, [int(0.6 * len(order))])
    cube = cube.assign(rv=SPEED_OF_LIGHT * cube["z"])
    known = cube.isel(star=learnt)
    start = time.process_time()
    recipe = hot_star_normalisation("vacuum", scale=NORMALISATION_SCALE)
    fitted = specxr.train(specxr.normalise(known, recipe), ESTIMATORS[name](seed), LABELS)
    seconds = time.process_time() - start
    unseen = cube.isel(star=rest)
    labels = specxr.infer(unseen, fitted)
    good = (unseen["snrg"].values > 50) & (labels["result"].values == 0)
    cells = []
    for label, digits in zip((*LABELS, "rv"), (1, 3, 3, 2), strict=True):
        difference = (labels[label].values - unseen[label].values)[good]
        cells.append(f"{np.median(difference):+9.{digits}f} +- {robust_scatter(difference):.{digits}f}")
    print(
        f"{name:6s} {seed:4d} {len(learnt):6d} {good.sum():5d} {' '.join(cells)} {seconds:6.0f}", flush=True
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--estimator", choices=ESTIMATORS, default="payne")
    parser.add_argument("--seeds", type=int, default=1, help="how many splits of the stars")
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if not SHARED.exists():
        raise SystemExit(f"{SHARED} is absent; the shared data are required. Set SPECXR_SHARED.")
    if options.small:
        options.estimator = "ridge"
    cube = observed(options.small)
    print(
        "       seed learnt   N   teff [K]          logg [dex]        feh [dex]         rv [km/s]     train [s]"
    )
    for seed in range(options.seeds):
        data_driven(cube, options.estimator, seed)


if __name__ == "__main__":
    main()
