"""Print which generator real hot stars follow: one model for each, all judged on the same stars that none has learnt.

    python tests/benchmarks/hot_generators.py --generator dr10 embedded elodie miles

SLAM with squared loss learns from each generator: half of the LAMOST DR10 stars themselves with their official labels
(odd obsids), the embedded emulator, ELODIE's, or the stars of MILES with their own labels. The spectra have the line
spread that was measured on LAMOST's stars. The models are applied to the A stars of the other half (even obsids) with
S/N_g > 50, and the one of DR10 also to the stars of MILES. LASP with ELODIE fits the same stars. The last column is the
share with the flag `outside_training`. Then it prints a test of gaps: the number of recovered temperatures in bins of
250 K from 8,500 to 10,500 K, against a smooth curve, and the same for the official labels and LASP.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from scipy.stats import chi2

import specxr
from specxr.cubes.schema import with_line_spread
from specxr.emulators import default, open_emulator
from specxr.published import hot_star_normalisation
from specxr.published.hot_stars import VSINI
from specxr.readers.lamost_lrs import GRID
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.synthesis import EmulatorSpectra, Instrument, make_training_set, open_observed
from specxr.synthesis.designs import Uniform, draw
from specxr.validation import robust_scatter
from specxr.vocabulary import SPEED_OF_LIGHT, Flag

sys.path.insert(0, str(Path(__file__).parent))
from real_stars import LABELS, SHARED, observed  # noqa: E402

DATA = SHARED.parent
ELODIE = DATA / "elodie" / "elodie32_flux_tgm_4199_5700.fits"
MILES, MILES_FWHM = DATA / "miles" / "miles_v9.1.npz", 2.54
# What recipes/hot_stars_train.py measures on 169 F and G stars: wavelengths [Angstrom] and resolving power.
LAMOST = LineSpread.tabulated(
    np.arange(3700.0, 7301.0, 200.0),
    (
        1093,
        1090,
        1195,
        1364,
        1551,
        1708,
        1816,
        1886,
        1932,
        1921,
        1753,
        1470,
        1436,
        1455,
        1506,
        1576,
        1657,
        1739,
        1817,
    ),
)
WINDOWS = {"dr10": (3850, 6900), "embedded": (3900, 6800), "elodie": (4225, 5675), "miles": (3850, 6900)}
DESIGN = {"teff": Uniform(6500, 16000), "logg": Uniform(2.5, 5), "feh": Uniform(-2.0, 0.6), "vsini": VSINI}
COOLEST = 6000.0  # K; observed stars below are not learnt
COMPARED = (("teff", 0), ("logg", 2), ("feh", 2), ("rv", 1))
TEFF_BINS = (
    (7000, 7500),
    (7500, 8500),
    (8500, 9500),
    (7500, 9500),
    (9500, 11000),
    (11000, 12500),
    (12500, 30000),
)
GAP_BINS = np.arange(8500.0, 10501.0, 250.0)


def pixels(name: str) -> Grid:
    """LAMOST's pixels in the window of a generator."""
    first, last = np.searchsorted(GRID.wavelength, WINDOWS[name])
    return replace(GRID[int(first) : int(last)], line_spread=LAMOST)


def library() -> xr.Dataset:
    """Stars of MILES as LAMOST would see them, with their velocities."""
    cube = open_observed(MILES, MILES_FWHM)
    cube = specxr.resample(cube.isel(star=cube["teff"].values > COOLEST), pixels("miles")).load()
    fitted = specxr.infer(cube, specxr.LASP(ELODIE))
    sure = (fitted["result"] == 0) & (abs(fitted["rv"]) < 60) & (fitted["rv_err"] < 10)
    # An unknown metallicity is taken as solar, an uncertain velocity as 0.
    return cube.assign(rv=fitted["rv"].where(sure, 0.0), feh=cube["feh"].fillna(0.0))


def train(name: str, learnt: xr.Dataset, n_stars: int) -> specxr.SLAM:
    """SLAM that has learnt from a generator."""
    recipe = hot_star_normalisation("vacuum")
    if name in ("dr10", "miles"):
        # A few hundred stars with labels that have errors ask for wide kernels.
        slam = specxr.SLAM(
            loss="squared", c=(0.1, 1.0, 10.0, 100.0, 1e3), gamma=(0.003, 0.01, 0.03, 0.1, 0.3)
        )
        cube = learnt if name == "dr10" else library().assign(ivar=lambda c: xr.ones_like(c["flux"]) * 1e4)
        cube = cube.sel(wavelength=pixels(name).wavelength)
        return specxr.train(specxr.normalise(cube, recipe), slam, LABELS)
    emulator = default() if name == "embedded" else open_emulator(ELODIE)
    training = make_training_set(
        draw(DESIGN, n_stars, seed=1), EmulatorSpectra(emulator), Instrument(pixels(name)), recipe, seed=1
    )
    slam = specxr.SLAM(loss="squared", c=(1.0, 100.0, 1e4, 1e6), gamma=(0.01, 0.1, 1.0))
    return specxr.train(training.load(scheduler="sync"), slam)


def row(pair: str, first: xr.Dataset, second: xr.Dataset, teff: np.ndarray) -> None:
    """Print differences of the labels in bins of temperature."""
    good = first["result"].values == 0
    if "result" in second:
        good = good & (second["result"].values == 0)
    for low, high in TEFF_BINS:
        here = (teff >= low) & (teff < high)
        both = here & good
        if both.sum() < 3:
            continue
        cells = []
        for label, digits in COMPARED:
            if label not in second:
                cells.append("-")
                continue
            difference = (first[label].values - second[label].values)[both]
            cells.append(f"{np.nanmedian(difference):+.{digits}f} +- {robust_scatter(difference):.{digits}f}")
        outside = ((first["flags"].values[both] & int(Flag.OUTSIDE_TRAINING)) > 0).mean()
        print(
            f"| {low}-{high} | {pair} | {both.sum()} of {here.sum()} | {' | '.join(cells)} | {outside:.0%} |",
            flush=True,
        )


def gaps(teff: np.ndarray) -> str:
    """Compare counts of temperatures in bins with a smooth curve: a void or a pile-up departs from it."""
    counts = np.histogram(teff, GAP_BINS)[0]
    # The root of a Poisson number scatters by 1/2, whatever its mean (Anscombe 1948).
    root, at = np.sqrt(counts + 0.375), np.arange(len(counts))
    away = root - np.polyval(np.polyfit(at, root, 2), at)
    departure, freedom = float(4.0 * (away**2).sum()), len(counts) - 3
    p = chi2.sf(departure, freedom)
    return f"{counts.tolist()}, chi2 {departure:.1f} for {freedom} degrees of freedom (p = {p:.2f})"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generator", nargs="+", choices=WINDOWS, default=list(WINDOWS))
    parser.add_argument("--stars", type=int, default=1500, help="number of synthetic spectra")
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if not SHARED.exists():
        raise SystemExit(f"{SHARED} is absent; the shared data are required. Set SPECXR_SHARED.")
    if options.small:
        options.generator, options.stars = ["elodie"], 60
    cube = with_line_spread(observed(options.small), LAMOST).sel(wavelength=slice(*WINDOWS["dr10"]))
    cube = cube.assign(rv=SPEED_OF_LIGHT * cube["z"])
    odd, teff = cube["obsid"].values % 2 == 1, cube["teff"].values
    known = np.isin(cube["type"].values, ["A", "F"]) & (teff > COOLEST) & (cube["snrg"].values > 30)
    learnt = cube.isel(star=odd & known)
    hot = (cube["type"].values == "A") & (teff > TEFF_BINS[0][0])
    test = cube.isel(star=~odd & hot & (cube["snrg"].values > 50))
    official, teff = test[[*LABELS, "rv"]], test["teff"].values
    bare = test.drop_vars([*LABELS, "rv"])
    lasp = specxr.infer(bare, specxr.LASP(ELODIE))
    print(f"{learnt.sizes['star']} stars of DR10 to learn from, {test.sizes['star']} A stars to be judged\n")
    print("| official Teff [K] | pair | N | Teff [K] | log g [dex] | [Fe/H] [dex] | rv [km/s] | outside |")
    print("|" + " --- |" * 8)
    row("LASP - official", lasp, official, teff)
    found = {"official": teff, "LASP": lasp["teff"].values}
    for name in options.generator:
        slam = train(name, learnt, options.stars)
        labels = specxr.infer(bare, slam)
        row(f"{name} - official", labels, official, teff)
        row(f"{name} - LASP", labels, lasp, teff)
        found[name] = labels["teff"].values[labels["result"].values == 0]
        if name == "dr10":
            stars = library()
            labels = specxr.infer(stars.drop_vars([*LABELS, "rv"]), slam)
            row("dr10 - MILES, stars of MILES", labels, stars[[*LABELS]], stars["teff"].values)
    print("\ntemperatures in bins of 250 K from 8,500 to 10,500 K")
    for name, values in found.items():
        print(f"{name}: {gaps(values)}")


if __name__ == "__main__":
    main()
