"""Hot stars: from emulators to a training set, The Payne and SLAM, and how well they find labels again.

Makes spectra of 6,500-19,000 K as LAMOST sees them (its pixels, its line spread measured on F and G stars), trains
on them, infers the labels of spectra that were not learnt at several S/N, and draws Figs. 1, 2, A.1 and A.2 of
Sun et al. 2025 with the project's own numbers:

    python recipes/hot_stars_train.py --out hot_stars

The emulators are thedoppler's cubic Cannon models as .npz, ``cannon_cubic_{coolstars,hotdwarfs}_3000_11000.npz``: the
hot one alone, trained from 8,000 K on and extrapolated to 6,500 K, or both (docs/training.md says what that costs).
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.stats import chi2 as chi2_distribution

import specxr
from specxr.calibration import fit_line_spread, measure_widths
from specxr.cubes.ingestion import ingest
from specxr.cubes.tables import label_table
from specxr.emulators import PolynomialEmulator
from specxr.estimators.trained import Trained
from specxr.kernels.refraction import vacuum_to_air
from specxr.plotting import plot_gradients, plot_pixel_residuals, plot_recovery_by_snr, plot_recovery_on_kiel
from specxr.plotting.style import BLUE, DATA, VERMILION
from specxr.published import hot_star_normalisation
from specxr.published.hot_stars import LINE_SPREAD_ARMS, LINE_SPREAD_DEGREE, VSINI
from specxr.spectra.line_spread import LineSpread
from specxr.spectra.normalisation import Normalisation
from specxr.synthesis import EmulatorSpectra, Instrument, make_training_set
from specxr.synthesis.designs import Uniform, draw, draw_isochrones, read_isochrones
from specxr.synthesis.survey import GRID
from specxr.validation import compare, gradient_spectra, pixel_residuals, recovery_by_snr

SHARED = Path(os.environ.get("SPECXR_SHARED", "../shared")) / "data"
LABELS = ("teff", "logg", "feh", "vsini")
BLEND = (7500.0, 8500.0)  # K; where the cool model gives way, as in the embedded emulator

# Wider than what is judged, 7,000-17,000 K: a star near the end of its training set is pulled inwards. Gravities and
# metallicities are those that the hot model was trained on.
TRAINED = {"teff": (6500.0, 19000.0), "logg": (3.0, 5.0), "feh": (-1.5, 0.5)}
JUDGED = (7000.0, 17000.0)
SNRS = (30.0, 50.0, 100.0, 250.0)
# Scatter and bias at S/N 100 in the paper's Fig. 2.
PAPER = {"teff": (118.0, 27.0), "logg": (0.04, 0.01), "feh": (0.07, 0.04), "vsini": (13.0, 3.1)}


def main() -> None:
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    line_spread = lamost_line_spread(options)
    first, last = np.searchsorted(GRID.wavelength, options.window)
    instrument = Instrument(replace(GRID[slice(first, last)], line_spread=line_spread))
    generator = EmulatorSpectra(read_models(options.models, options.use), vacuum_to_air(instrument.edges))
    recipe = hot_star_normalisation("vacuum")

    training = make_training_set(
        design(options, options.n_train, seed=1), generator, instrument, recipe, snr=1000.0, seed=1
    ).load()
    tests = [
        make_training_set(
            judged(design(options, 2 * options.n_test, seed=100 + i), options.n_test),
            generator, instrument, recipe, snr=snr, seed=100 + i,
        ).load()
        for i, snr in enumerate(SNRS)
    ]  # fmt: skip
    quiet = make_training_set(
        judged(design(options, 2 * options.n_test, seed=200), options.n_test),
        generator, instrument, recipe, snr=1000.0, seed=200,
    ).load()  # fmt: skip

    for name, estimator in estimators(options).items():
        begin = time.perf_counter()
        trained = specxr.train(training, estimator, LABELS)
        print(f"\n{name}: trained on {options.n_train} stars in {time.perf_counter() - begin:.0f} s")
        trained.save(options.out / f"{name}.safetensors", overwrite=True)
        judge(name, trained, tests, options.out)
        judge_spectra(name, trained, quiet, options.out)
        draw_gradients(name, trained, generator, instrument, recipe, options.out)


def estimators(options: argparse.Namespace) -> dict[str, Trained]:
    """What is trained."""
    every = {
        "payne": specxr.Payne(),
        "payne_as_published": specxr.Payne(
            hidden=(40, 40), activation="sigmoid", learning_rate=1e-3, validation=0.3
        ),
        "slam": specxr.SLAM(),
        "slam_squared": specxr.SLAM(loss="squared", c=(1.0, 100.0, 1e4, 1e6), gamma=(0.01, 0.1, 1.0)),
    }
    return {name: every[name] for name in options.methods}


def design(options: argparse.Namespace, n_stars: int, seed: int) -> dict[str, np.ndarray]:
    """Temperatures and gravities along isochrones, metallicities uniform, rotation log-normal."""
    isochrones = pd.concat([read_isochrones(path) for path in sorted(options.isochrones.glob("*.dat*"))])
    stars = draw_isochrones(isochrones, n_stars, seed, teff=TRAINED["teff"], logg=TRAINED["logg"])
    return stars | draw({"feh": Uniform(*TRAINED["feh"]), "vsini": VSINI}, n_stars, seed)


def judged(stars: dict[str, np.ndarray], n_stars: int) -> dict[str, np.ndarray]:
    """Those in the range of temperature that is judged."""
    inside = np.flatnonzero((stars["teff"] >= JUDGED[0]) & (stars["teff"] < JUDGED[1]))[:n_stars]
    return {name: values[inside] for name, values in stars.items()}


def judge(name: str, estimator: Trained, tests: list, out: Path) -> None:
    """Print and draw how well labels are found again."""
    found, truth = [], []
    begin = time.perf_counter()
    for test in tests:
        found.append(label_table(specxr.infer(test, estimator)))
        truth.append(pd.DataFrame({label: test[label].values for label in (*LABELS, "snr")}))
    seconds = time.perf_counter() - begin
    labels, truth = pd.concat(found, ignore_index=True), pd.concat(truth, ignore_index=True)
    print(f"{len(labels)} stars in {seconds:.1f} s; {labels['result'].value_counts().to_dict()}")
    recovery_by_snr(labels, truth).to_csv(out / f"{name}_recovery.csv", index=False)

    at_100 = (truth["snr"] == 100.0).to_numpy()
    one, two = (frame[at_100].reset_index(drop=True) for frame in (labels, truth))
    one, two = (frame.assign(obsid=np.arange(len(frame))) for frame in (one, two))
    table = compare(one, two, labels=LABELS)[["mean", "std", "median", "robust_scatter", "n_outliers"]]
    table["allowed std"], table["allowed |mean|"] = ([PAPER[label][i] for label in LABELS] for i in (0, 1))
    print(f"S/N 100, {JUDGED[0]:.0f}-{JUDGED[1]:.0f} K, inferred - true\n{table.round(3).to_string()}")
    print(f"between 9,000 and 11,000 K: {void(one['teff'], two['teff'])}")

    plot_recovery_by_snr(labels, truth).savefig(out / f"{name}_snr.png", dpi=150)
    plot_recovery_on_kiel(labels, truth).savefig(out / f"{name}_kiel.png", dpi=150)
    draw_histogram(one["teff"], two["teff"]).savefig(out / f"{name}_histogram.png", dpi=150)


def void(found: pd.Series, truth: pd.Series) -> str:
    """How the histogram of recovered temperatures departs from the true one where Balmer lines are strongest."""
    bins = np.arange(9000.0, 11001.0, 250.0)
    counts, expected = (np.histogram(teff, bins)[0] for teff in (found, truth))
    departure = float(((counts - expected) ** 2 / np.maximum(expected, 1)).sum())
    chance = chi2_distribution.sf(departure, len(expected))
    return (
        f"{counts.sum()} stars recovered, {expected.sum()} true; in bins of 250 K {counts.tolist()}, true "
        f"{expected.tolist()}; chi2 {departure:.1f} for {len(expected)} bins (p = {chance:.2f})"
    )


def judge_spectra(name: str, estimator: Trained, quiet, out: Path) -> None:
    """Print and draw how close the emulator is to spectra that it has not learnt, at S/N 1000."""
    labels = np.stack([quiet[label].values for label in LABELS], axis=1)
    used = np.where(quiet["ivar"].values > 0, quiet["flux"].values, np.nan)
    model = emulate(estimator, labels)
    scatter = pixel_residuals(model, used)
    print(
        f"pixel residuals: {100 * scatter['all']:.2f} % of all pixels, {100 * scatter['core']:.2f} % in line cores"
    )
    plot_pixel_residuals(model, used).figure.savefig(out / f"{name}_residuals.png", dpi=150)


def emulate(estimator: Trained, labels: np.ndarray) -> np.ndarray:
    """Normalised flux of the trained emulator."""
    model = estimator.model
    return model.emulator.flux_and_derivatives(torch.from_numpy(labels))[0][:, : model.n_pixel].numpy()


def draw_gradients(
    name: str, estimator: Trained, generator: EmulatorSpectra, instrument: Instrument,
    recipe: Normalisation, out: Path,
) -> None:  # fmt: skip
    reference = {"teff": 12500.0, "logg": 3.5, "feh": 0.0, "vsini": 150.0}

    def true_spectra(labels: np.ndarray) -> np.ndarray:
        stars = dict(zip(LABELS, labels.T, strict=True))
        made = make_training_set(stars, generator, instrument, recipe, snr=1e9).load()
        return np.where(made["ivar"].values > 0, made["flux"].values, np.nan)

    gradients = (
        gradient_spectra(spectra, reference) for spectra in (lambda x: emulate(estimator, x), true_spectra)
    )
    figure = plot_gradients(instrument.grid.wavelength, *gradients)
    figure.suptitle("12,500 K, log g 3.5, [Fe/H] 0.0, 150 km/s", x=0.02, ha="left", fontsize="medium")
    figure.savefig(out / f"{name}_gradients.png", dpi=150)


def draw_histogram(found: pd.Series, truth: pd.Series) -> Figure:
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    ax = figure.subplots()
    bins = np.arange(JUDGED[0], JUDGED[1] + 1, 250.0)
    expected = ax.hist(truth, bins, histtype="stepfilled", color="0.85", label="true")[0]
    ax.hist(found, bins, histtype="step", color=VERMILION, label="recovered")
    middle = 0.5 * (bins[1:] + bins[:-1])
    ax.errorbar(middle, expected, yerr=np.sqrt(expected), fmt="none", color=DATA, lw=0.8, label="Poisson")
    ax.axvspan(9000, 11000, color=BLUE, alpha=0.08, lw=0)
    ax.set(xlabel="effective temperature [K]", ylabel="stars in 250 K")
    ax.legend(frameon=False)
    return figure


def lamost_line_spread(options: argparse.Namespace) -> LineSpread:
    """The line spread of LAMOST's spectrographs, from F and G stars of S/N above 100."""
    path = options.out / "fgk.zarr"
    if not path.exists():
        ingest("lamost-lrs", options.spectra, path)
    cube = specxr.open_cube(path)
    official = pd.read_csv(options.labels).set_index("obsid").loc[cube["obsid"].values]
    chosen = (
        (official["snrg"] > 100) & official["teff"].between(4800, 6800) & official["feh"].between(-1, 0.5)
    )
    cube, official = cube.isel(star=np.flatnonzero(chosen)).load(), official[chosen]
    velocity = cube["z"].values * 299792.458
    cool = EmulatorSpectra(read_models(options.models, ["coolstars"]))
    widths = measure_widths(cube, {label: official[label] for label in LABELS[:3]}, velocity, cool)
    line_spread = fit_line_spread(widths, LINE_SPREAD_ARMS, LINE_SPREAD_DEGREE)

    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    ax = figure.subplots()
    fwhm = 2.3548 / 299792.458 * widths.wavelength
    ax.errorbar(
        widths.wavelength, fwhm * widths.sigma, yerr=fwhm * widths.sigma_err, fmt="o", ms=3, color=DATA,
        label=f"windows, {len(official)} F and G stars",
    )  # fmt: skip
    wavelength = GRID.wavelength
    fitted = 2.3548 / 299792.458 * wavelength * line_spread.sigma(wavelength)
    ax.plot(wavelength, fitted, color=VERMILION, label="fifth order in each arm")
    ax.set(xlabel="wavelength [Angstrom]", ylabel="FWHM of the line spread [Angstrom]")
    ax.legend(frameon=False)
    figure.savefig(options.out / "line_spread.png", dpi=150)
    power = wavelength / fitted
    print(f"line spread of {len(official)} stars: resolving power {power.min():.0f}-{power.max():.0f}")
    return line_spread


def read_models(folder: Path, names: list[str]) -> PolynomialEmulator:
    """Cannon models of normalised flux, not broadened, as one emulator on their own pixels."""
    models = [np.load(folder / f"cannon_cubic_{name}_3000_11000.npz") for name in names]
    near = (models[0]["wave_air"] > 3600.0) & (models[0]["wave_air"] < 9300.0)
    centre = models[0]["wave_air"][near]
    return PolynomialEmulator(
        coefficients=np.stack([model["theta"][near].T.astype("f8") for model in models]),
        edges=np.append(centre - 0.05, centre[-1] + 0.05),
        medium="air",
        powers=models[0]["powers"].astype(np.int64),
        fiducial=np.stack([model["fiducials"].astype("f8") for model in models]),
        scale=np.stack([model["scales"] for model in models]),
        knots=np.array([BLEND])[: len(models) - 1].reshape(-1, 2),
        bounds={"teff": (4300.0, 25000.0), "logg": (0.0, 5.0), "feh": (-2.5, 0.5)},
        log_teff=False,
        name="doppler",
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=SHARED / "doppler", help="folder of Cannon models")
    parser.add_argument(
        "--use", nargs="+", default=["hotdwarfs"], choices=["coolstars", "hotdwarfs"],
        help="which models, cool before hot; both are blended from 7500 to 8500 K",
    )  # fmt: skip
    parser.add_argument(
        "--isochrones", type=Path, default=SHARED / "isochrones", help="folder of FSPS isochrones"
    )
    parser.add_argument(
        "--spectra", type=Path, default=SHARED / "lamost_dr10" / "fits", help="LAMOST spectra"
    )
    parser.add_argument(
        "--labels", type=Path, default=SHARED / "lamost_dr10" / "labels.csv", help="their labels"
    )
    parser.add_argument(
        "--methods", nargs="+", default=["payne", "slam"], help="payne, slam, slam_squared, ..."
    )
    parser.add_argument("--window", nargs=2, type=float, default=GRID.wavelength[[0, -1]], help="Angstrom")
    parser.add_argument("--n-train", type=int, default=5000)
    parser.add_argument("--n-test", type=int, default=1500, help="stars at each S/N")
    parser.add_argument("--out", type=Path, default=Path("hot_stars"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
