"""Print how well a data-driven estimator predicts the official labels of LAMOST stars that it has not seen.

    python tests/benchmarks/real_stars.py [--estimator payne|slam|ridge] [--seeds 3] [--model HOT_STARS.safetensors]

It uses the F and G stars of the shared DR10 spectra with official labels and S/N_g > 30. Of these 60 % are learnt, at
rest by the official redshift, and the labels of the others are predicted from the spectra as observed. The robust
scatter of those with S/N_g > 50 should be at most 60 K, 0.10 and 0.06 dex. With a model of hot stars (`specxr train`),
it compares the A stars above 8,000 K with the official labels and with LASP with the ELODIE emulator, by official Teff.
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
        table = table[table["type"].isin(["F", "G"]) & (table["snrg"] > 60)].head(40)
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
    known = cube.assign(rv=("star", SPEED_OF_LIGHT * cube["z"].values)).isel(star=learnt)
    start = time.process_time()
    recipe = hot_star_normalisation("vacuum", scale=NORMALISATION_SCALE)
    fitted = specxr.train(specxr.normalise(known, recipe), ESTIMATORS[name](seed), LABELS)
    seconds = time.process_time() - start
    unseen = cube.isel(star=rest)
    labels = specxr.infer(unseen, fitted)
    good = (unseen["snrg"].values > 50) & (labels["result"].values == 0)
    cells = []
    for label, digits in zip(LABELS, (1, 3, 3), strict=True):
        difference = (labels[label].values - unseen[label].values)[good]
        cells.append(f"{np.median(difference):+9.{digits}f} +- {robust_scatter(difference):.{digits}f}")
    print(
        f"{name:6s} {seed:4d} {len(learnt):6d} {good.sum():5d} {' '.join(cells)} {seconds:6.0f}", flush=True
    )


def hot(cube: xr.Dataset, path: Path, kind: str) -> None:
    """Apply a model of hot stars to the A stars above 8,000 K, and LASP."""
    cube = cube.isel(
        star=(cube["type"].values == "A") & (cube["teff"].values > 8000) & (cube["snrg"].values > 50)
    )
    model = {"payne": specxr.Payne, "slam": specxr.SLAM}[kind].load(path)
    lasp = specxr.LASP(SHARED.parent / "elodie" / "elodie32_flux_tgm_4199_5700.fits")
    inferred = {kind: specxr.infer(cube, model), "LASP": specxr.infer(cube, lasp)}
    pairs = [(kind, "official"), (kind, "LASP"), ("LASP", "official")]
    print(
        f"{'by official Teff':18s} {'pair':20s}    N   Teff [K]        logg [dex]      [Fe/H] [dex]   flagged"
    )
    for low, high in ((8000, 9000), (9000, 10000), (10000, 11000), (11000, 12000), (12000, 30000)):
        here = (cube["teff"].values >= low) & (cube["teff"].values < high)
        for a, b in pairs:
            first, second = inferred[a], cube if b == "official" else inferred[b]
            fine = here & (first["result"].values == 0)
            if b != "official":
                fine &= second["result"].values == 0
            if fine.sum() < 3:
                continue
            cells = []
            for label, digits in zip(LABELS, (0, 2, 2), strict=True):
                difference = (first[label].values - second[label].values)[fine]
                cells.append(
                    f"{np.median(difference):+7.{digits}f} +- {robust_scatter(difference):<5.{digits}f}"
                )
            flagged = ((first["flags"].values & 2) > 0)[here].mean()
            print(
                f"{low:6d}-{high:<11d} {a + ' - ' + b:20s} {fine.sum():4d} {' '.join(cells)} {flagged:8.0%}"
            )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--estimator", choices=ESTIMATORS, default="payne")
    parser.add_argument("--seeds", type=int, default=1, help="how many splits of the stars")
    parser.add_argument(
        "--model", type=Path, help="a model of hot stars, to be applied to the A stars instead"
    )
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if not SHARED.exists():
        raise SystemExit(f"{SHARED} is absent; the shared data are required. Set SPECXR_SHARED.")
    if options.small:
        options.estimator = "ridge"
    cube = observed(options.small)
    if options.model is not None:
        hot(cube, options.model, "slam" if options.estimator == "ridge" else options.estimator)
        return
    print("       seed learnt   N   teff [K]          logg [dex]        feh [dex]     train [s]")
    for seed in range(options.seeds):
        data_driven(cube, options.estimator, seed)


if __name__ == "__main__":
    main()
