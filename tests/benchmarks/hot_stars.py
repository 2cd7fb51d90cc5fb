"""Print what a model of hot stars says of real A and F stars: velocities and labels, beside LASP and the official ones.

    python tests/benchmarks/hot_stars.py --generator embedded|elodie|cannon [--window 3900 6800] [--estimator NAME]
    python tests/benchmarks/hot_stars.py --model HOT_STARS.safetensors

A model is trained here on synthetic spectra of an emulator, or opened from a file (`specxr train`,
`recipes/hot_stars_train.py`). It is applied to the A and F stars of the shared DR10 spectra with S/N_g > 50 and an
official Teff within the range of the model. LASP fits the same stars with the ELODIE emulator. The two Cannon models
that were embedded first are read from the shared data.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from scipy.stats import theilslopes

import specxr
from specxr.emulators import PolynomialEmulator, default, open_emulator
from specxr.published import hot_star_normalisation
from specxr.published.hot_stars import VSINI
from specxr.readers.lamost_lrs import GRID
from specxr.synthesis import EmulatorSpectra, Instrument, make_training_set
from specxr.synthesis.designs import Uniform, draw
from specxr.validation import robust_scatter
from specxr.vocabulary import SPEED_OF_LIGHT, Flag

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "recipes")]
from hot_stars_train import read_models  # noqa: E402
from real_stars import LABELS, SHARED, observed  # noqa: E402

ELODIE = SHARED.parent / "elodie" / "elodie32_flux_tgm_4199_5700.fits"
DESIGN = {"teff": Uniform(6500, 19000), "logg": Uniform(3, 5), "feh": Uniform(-1.5, 0.5), "vsini": VSINI}
GENERATORS = ("embedded", "elodie", "cannon")
ESTIMATORS = {
    "payne": specxr.Payne,
    "slam": specxr.SLAM,
    "ridge": lambda: specxr.SLAM(loss="squared", c=(1.0, 100.0, 1e4, 1e6), gamma=(0.01, 0.1, 1.0)),
}
COMPARED = (("teff", 0), ("logg", 2), ("feh", 2), ("rv", 1))
TEFF_BINS = ((8000, 9000), (9000, 10000), (10000, 11000), (11000, 12000), (12000, 30000))
SLOPE_BINS = (("F", 6000, 9500), ("A", 7000, 9500), ("A", 9500, 30000))


def emulator_of(generator: str) -> PolynomialEmulator:
    """The emulator that a model learns from: the embedded one, ELODIE's, or the two Cannon models."""
    if generator == "embedded":
        return default()
    if generator == "elodie":
        return open_emulator(ELODIE)
    return read_models(SHARED.parent / "doppler", ["coolstars", "hotdwarfs"])


def train(generator: str, window: Sequence[float], n_stars: int, estimator: str):
    """Train on spectra of an emulator, 6,500-19,000 K, as LAMOST with R = 1800 would see them."""
    emulator = emulator_of(generator)
    first, last = np.searchsorted(GRID.wavelength, window)
    training = make_training_set(
        draw(DESIGN, n_stars, seed=1),
        EmulatorSpectra(emulator),
        Instrument(GRID[slice(first, last)]),
        hot_star_normalisation("vacuum"),
        seed=1,
    )
    return specxr.train(training.load(scheduler="sync"), ESTIMATORS[estimator]())


def pairs_of(name: str, labels: dict[str, xr.Dataset], stars: np.ndarray):
    """Yield the names and the labels of each pair, and which of these stars both have converged for."""
    for a, b in ((name, "official"), (name, "LASP"), ("LASP", "official")):
        both = stars & (labels[a]["result"].values == 0)
        if b != "official":
            both = both & (labels[b]["result"].values == 0)
        if both.sum() >= 3:
            yield f"{a} - {b}", labels[a], labels[b], both


def print_velocities(cube: xr.Dataset, name: str, labels: dict[str, xr.Dataset]) -> None:
    """Print slopes, by least squares and Theil-Sen, and differences of velocities."""
    print("| type, official Teff [K] | pair | N | slope | robust slope | rv [km/s] |\n|" + " --- |" * 6)
    for kind, low, high in SLOPE_BINS:
        here = (cube["type"].values == kind) & (cube["teff"].values > low) & (cube["teff"].values < high)
        for pair, first, second, both in pairs_of(name, labels, here):
            a, b = first["rv"].values[both], second["rv"].values[both]
            slope, robust = np.polyfit(b, a, 1)[0], theilslopes(a, b)[0]
            difference = f"{np.median(a - b):+.1f} +- {robust_scatter(a - b):.1f}"
            print(
                f"| {kind}, {low}-{high} | {pair} | {both.sum()} | {slope:.3f} | {robust:.3f} | {difference} |"
            )


def print_labels(cube: xr.Dataset, name: str, labels: dict[str, xr.Dataset]) -> None:
    """Print differences of the labels of A stars by official Teff."""
    print(
        "\n| official Teff [K] | pair | N | Teff [K] | log g [dex] | [Fe/H] [dex] | rv [km/s] | at a limit | outside |"
    )
    print("|" + " --- |" * 9)
    for low, high in TEFF_BINS:
        here = (cube["type"].values == "A") & (cube["teff"].values >= low) & (cube["teff"].values < high)
        for pair, first, second, both in pairs_of(name, labels, here):
            cells = []
            for label, digits in COMPARED:
                difference = (first[label].values - second[label].values)[both]
                cells.append(
                    f"{np.median(difference):+.{digits}f} +- {robust_scatter(difference):.{digits}f}"
                )
            flags = first["flags"].values[both]
            shares = (
                ((flags & int(flag)) > 0).mean() for flag in (Flag.LABEL_AT_LIMIT, Flag.OUTSIDE_TRAINING)
            )
            cells += [f"{share:.0%}" for share in shares]
            print(f"| {low}-{high} | {pair} | {both.sum()} of {here.sum()} | {' | '.join(cells)} |")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generator", choices=GENERATORS, default="embedded", help="what the model learns")
    parser.add_argument(
        "--window", nargs=2, type=float, default=(3900.0, 6800.0), help="of the model [Angstrom]"
    )
    parser.add_argument("--stars", type=int, default=3000, help="number of spectra that the model learns")
    parser.add_argument("--estimator", choices=ESTIMATORS, default="payne")
    parser.add_argument("--model", type=Path, help="a trained model, in place of --generator and --estimator")
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if not SHARED.exists():
        raise SystemExit(f"{SHARED} is absent; the shared data are required. Set SPECXR_SHARED.")
    if options.small:
        options.estimator, options.stars, options.window = "ridge", 60, (4900.0, 5300.0)
    cube = observed(options.small)
    if options.model is not None:
        model, name = specxr.open_estimator(options.model), "model"
    else:
        model = train(options.generator, options.window, options.stars, options.estimator)
        name = f"{type(model).__name__} ({options.generator})"
    low, high = model.trained_model.bounds["teff"]
    known = (cube["teff"].values > low) & (cube["teff"].values < high) & (cube["snrg"].values > 50)
    cube = cube.isel(star=np.isin(cube["type"].values, ["A", "F"]) & known)
    official = xr.Dataset({label: cube[label] for label in LABELS} | {"rv": SPEED_OF_LIGHT * cube["z"]})
    labels = {
        name: specxr.infer(cube, model),
        "LASP": specxr.infer(cube, specxr.LASP(ELODIE)),
        "official": official,
    }
    print_velocities(cube, name, labels)
    print_labels(cube, name, labels)


if __name__ == "__main__":
    main()
