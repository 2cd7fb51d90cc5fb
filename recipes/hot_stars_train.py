"""Hot stars: a training set, The Payne and SLAM trained on it, and how well they recover labels.

The recipe measures the line spread of LAMOST on F and G stars, makes spectra of 6,500-19,000 K as LAMOST observes them,
trains on them, and infers the labels of other such spectra at several S/N and of real A stars. It prints tables and
draws Figs. 1, 2, A.1 and A.2 of Sun et al. 2025 with its own numbers. Expected time: half an hour on one core, of which
SLAM takes ten minutes; `--small` takes half a minute.

    python recipes/hot_stars_train.py --out hot_stars

The emulators are thedoppler's cubic Cannon models as .npz, ``cannon_cubic_{coolstars,hotdwarfs}_3000_11000.npz``: the
hot one alone, which was trained from 8,000 K on and is extrapolated to 6,500 K, or both (see
docs/methods/training.md). All files are written below `--out`.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr
from matplotlib.figure import Figure
from scipy.stats import chi2 as chi2_distribution

import specxr
from specxr.calibration import fit_line_spread, measure_widths
from specxr.cubes.ingestion import ingest
from specxr.cubes.schema import with_line_spread
from specxr.cubes.tables import label_table
from specxr.emulators import PolynomialEmulator
from specxr.estimators.emulated.base import Emulated
from specxr.kernels.refraction import vacuum_to_air
from specxr.plotting import (
    plot_gradients,
    plot_pixel_residuals,
    plot_recovery_by_snr,
    plot_recovery_on_kiel,
    save_figure,
)
from specxr.plotting.style import BLUE, DATA, VERMILION
from specxr.published import hot_star_normalisation
from specxr.published.hot_stars import (
    HOT_STAR_TRAINING,
    KIEL_SNR,
    LINE_SPREAD_ARMS,
    LINE_SPREAD_DEGREE,
    LINE_SPREAD_SNR,
    RECOVERY_AT_SNR_100,
    VSINI,
)
from specxr.readers.lamost_lrs import GRID
from specxr.spectra.line_spread import FWHM_TO_SIGMA, LineSpread
from specxr.spectra.normalisation import Normalisation
from specxr.synthesis import EmulatorSpectra, Instrument, make_training_set
from specxr.synthesis.designs import Design, Uniform, read_isochrones
from specxr.validation import compare, gradient_spectra, pixel_residuals, recovery_by_snr
from specxr.vocabulary import SPEED_OF_LIGHT

SHARED = Path(os.environ.get("SPECXR_SHARED", "../shared")) / "data"
LABELS = ("teff", "logg", "feh", "vsini")
# Range in which the cool model gives way to the hot one, as in the emulator that was embedded first [K].
BLEND = (7500.0, 8500.0)

# The design is wider than the range that is judged, 7,000-17,000 K: a star near the end of its training set is pulled
# inwards. Gravities and metallicities are those that the hot model was trained on.
DESIGN = Design((6500.0, 19000.0), (3.0, 5.0), {"feh": Uniform(-1.5, 0.5), "vsini": VSINI})
JUDGED = (7000.0, 17000.0)


@dataclass(frozen=True)
class Simulation:
    """All that makes spectra of labels."""

    generator: EmulatorSpectra
    instrument: Instrument
    recipe: Normalisation

    def make(self, stars: dict[str, np.ndarray], snr: float, seed: int) -> xr.Dataset:
        """Normalised spectra with noise, in memory."""
        return make_training_set(
            stars, self.generator, self.instrument, self.recipe, snr=snr, seed=seed
        ).load()


def main(argv: Sequence[str] | None = None) -> None:
    options = _options(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    line_spread = lamost_line_spread(options)
    first, last = np.searchsorted(GRID.wavelength, options.window)
    pixels = slice(int(first), int(last))
    instrument = Instrument(replace(GRID[pixels], line_spread=line_spread))
    generator = EmulatorSpectra(read_models(options.models, options.use), vacuum_to_air(instrument.edges))
    simulation = Simulation(generator, instrument, hot_star_normalisation("vacuum"))

    training = simulation.make(design(options, options.n_train, 1), HOT_STAR_TRAINING.snr, 1)
    tests = [simulation.make(judged(options, 100 + i), snr, seed=100 + i) for i, snr in enumerate(KIEL_SNR)]
    quiet = simulation.make(judged(options, 200), HOT_STAR_TRAINING.snr, 200)
    real, official = real_stars(options, line_spread, pixels)

    for name, estimator in estimators(options).items():
        begin = time.perf_counter()
        trained = specxr.train(training, estimator, LABELS)
        print(f"\n{name}: trained on {options.n_train} stars in {time.perf_counter() - begin:.0f} s")
        trained.save(options.out / f"{name}.safetensors", overwrite=True)
        judge(name, trained, tests, options)
        judge_spectra(name, trained, quiet, options.out)
        draw_gradients(name, trained, simulation, options.out)
        judge_real(trained, real, official)


def estimators(options: argparse.Namespace) -> dict[str, Emulated]:
    """Estimators that are trained, by the names of `--methods`."""
    paper = HOT_STAR_TRAINING
    known = {
        "payne": specxr.Payne(),
        "payne_as_published": specxr.Payne(
            hidden=paper.hidden,
            activation=paper.activation,
            learning_rate=paper.learning_rate,
            validation=paper.validation,
        ),
        "slam": specxr.SLAM(),
        "slam_squared": specxr.SLAM(loss="squared", c=(1.0, 100.0, 1e4, 1e6), gamma=(0.01, 0.1, 1.0)),
    }
    return {name: known[name] for name in options.methods}


def design(options: argparse.Namespace, n_stars: int, seed: int) -> dict[str, np.ndarray]:
    """Temperatures and gravities along isochrones, metallicities uniform, rotation log-normal."""
    isochrones = pd.concat([read_isochrones(path) for path in sorted(options.isochrones.glob("*.dat*"))])
    return DESIGN.draw(isochrones, n_stars, seed)


def judged(options: argparse.Namespace, seed: int) -> dict[str, np.ndarray]:
    """Test stars in the range of temperature that is judged."""
    stars = design(options, 2 * options.n_test, seed)
    inside = np.flatnonzero((stars["teff"] >= JUDGED[0]) & (stars["teff"] < JUDGED[1]))[: options.n_test]
    return {name: values[inside] for name, values in stars.items()}


def judge(name: str, estimator: Emulated, tests: list[xr.Dataset], options: argparse.Namespace) -> None:
    """Print and draw how well labels are recovered."""
    inferred, true = [], []
    begin = time.perf_counter()
    for test in tests:
        inferred.append(label_table(specxr.infer(test, estimator)))
        true.append(pd.DataFrame({label: test[label].values for label in (*LABELS, "snr")}))
    seconds = time.perf_counter() - begin
    labels, truth = pd.concat(inferred, ignore_index=True), pd.concat(true, ignore_index=True)
    print(f"{len(labels)} stars in {seconds:.1f} s; {labels['result'].value_counts().to_dict()}")
    recovery_by_snr(labels, truth).to_csv(options.out / f"{name}_recovery.csv", index=False)

    at_100 = (truth["snr"] == 100.0).to_numpy()
    one, two = (frame[at_100].reset_index(drop=True) for frame in (labels, truth))
    one, two = (frame.assign(obsid=np.arange(len(frame))) for frame in (one, two))
    table = compare(one, two, labels=LABELS)[["mean", "std", "median", "robust_scatter", "n_outliers"]]
    table["published std"] = [RECOVERY_AT_SNR_100[label].scatter for label in LABELS]
    table["published mean"] = [RECOVERY_AT_SNR_100[label].bias for label in LABELS]
    print(f"S/N 100, {JUDGED[0]:.0f}-{JUDGED[1]:.0f} K, inferred - true\n{table.round(3).to_string()}")
    print(f"between 9,000 and 11,000 K: {void(one['teff'], two['teff'])}")

    save_figure(plot_recovery_by_snr(labels, truth), options.out / f"{name}_snr.png")
    if not options.small:  # few stars do not fill the bins of the Kiel diagram
        save_figure(plot_recovery_on_kiel(labels, truth), options.out / f"{name}_kiel.png")
    save_figure(draw_histogram(one["teff"], two["teff"]), options.out / f"{name}_histogram.png")


def void(inferred: pd.Series, truth: pd.Series) -> str:
    """Difference of the histograms of inferred and true temperatures where Balmer lines are strongest."""
    bins = np.arange(9000.0, 11001.0, 250.0)
    counts, expected = (np.histogram(teff.dropna(), bins)[0] for teff in (inferred, truth))
    departure = float(((counts - expected) ** 2 / np.maximum(expected, 1)).sum())
    chance = chi2_distribution.sf(departure, len(expected))
    return (
        f"{counts.sum()} stars recovered, {expected.sum()} true; in bins of 250 K {counts.tolist()}, true "
        f"{expected.tolist()}; chi2 {departure:.1f} for {len(expected)} bins (p = {chance:.2f})"
    )


def judge_spectra(name: str, estimator: Emulated, quiet: xr.Dataset, out: Path) -> None:
    """Print and draw how close the emulator is to spectra that it has not learnt, at S/N 1000."""
    labels = np.stack([quiet[label].values for label in LABELS], axis=1)
    flux = np.where(quiet["ivar"].values > 0, quiet["flux"].values, np.nan)
    model = emulate(estimator, labels)
    scatter = pixel_residuals(model, flux)
    print(
        f"pixel residuals: {100 * scatter['all']:.2f} % of all pixels, {100 * scatter['core']:.2f} % in line cores"
    )
    save_figure(plot_pixel_residuals(model, flux), out / f"{name}_residuals.png")


def judge_real(estimator: Emulated, cube: xr.Dataset, official: pd.DataFrame) -> None:
    """Print inferred minus official labels of real A stars."""
    table = label_table(specxr.infer(cube, estimator))
    table = table[table["result"] == "converged"]
    statistics = compare(table, official, labels=("rv", "teff", "logg", "feh"))
    print(f"{len(table)} of {len(official)} real A stars converged; inferred - official")
    print(statistics[["n", "median", "robust_scatter"]].round(3).to_string())


def emulate(estimator: Emulated, labels: np.ndarray) -> np.ndarray:
    """Normalised flux of the trained emulator."""
    flux = estimator.emulator.flux(torch.from_numpy(labels))
    return flux[:, : estimator.model.n_pixel].numpy()


def draw_gradients(name: str, estimator: Emulated, simulation: Simulation, out: Path) -> None:
    reference = {"teff": 12500.0, "logg": 3.5, "feh": 0.0, "vsini": 150.0}

    def true_spectra(labels: np.ndarray) -> np.ndarray:
        made = simulation.make(dict(zip(LABELS, labels.T, strict=True)), snr=1e9, seed=0)
        return np.where(made["ivar"].values > 0, made["flux"].values, np.nan)

    gradients = (
        gradient_spectra(spectra, reference) for spectra in (lambda x: emulate(estimator, x), true_spectra)
    )
    figure = plot_gradients(simulation.instrument.grid.wavelength, *gradients)
    figure.suptitle("12,500 K, log g 3.5, [Fe/H] 0.0, 150 km/s", x=0.02, ha="left", fontsize="medium")
    save_figure(figure, out / f"{name}_gradients.png")


def draw_histogram(inferred: pd.Series, truth: pd.Series) -> Figure:
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    ax = figure.subplots()
    bins = np.arange(JUDGED[0], JUDGED[1] + 1, 250.0)
    expected = ax.hist(truth, bins, histtype="stepfilled", color="0.85", label="true")[0]
    ax.hist(inferred, bins, histtype="step", color=VERMILION, label="recovered")
    middle = 0.5 * (bins[1:] + bins[:-1])
    ax.errorbar(middle, expected, yerr=np.sqrt(expected), fmt="none", color=DATA, lw=0.8, label="Poisson")
    ax.axvspan(9000, 11000, color=BLUE, alpha=0.08, lw=0)
    ax.set(xlabel="effective temperature [K]", ylabel="stars in 250 K")
    ax.legend(frameon=False)
    return figure


def lamost_line_spread(options: argparse.Namespace) -> LineSpread:
    """Measure the line spread of LAMOST's spectrographs on F and G stars, and draw it."""
    official = pd.read_csv(options.labels)
    slow = official["teff"].between(4800, 6800) & official["feh"].between(-1, 0.5)
    chosen = official[slow & (official["snrg"] > LINE_SPREAD_SNR)]
    cube, chosen = spectra_of(chosen.head(40) if options.small else chosen, options, "fgk.zarr")
    cool = EmulatorSpectra(read_models(options.models, ["coolstars"]))
    velocity = cube["z"].values * SPEED_OF_LIGHT
    widths = measure_widths(cube, {label: chosen[label] for label in LABELS[:3]}, velocity, cool)
    line_spread = fit_line_spread(widths, LINE_SPREAD_ARMS, LINE_SPREAD_DEGREE)

    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    ax = figure.subplots()
    fwhm = widths.wavelength / FWHM_TO_SIGMA / SPEED_OF_LIGHT
    ax.errorbar(
        widths.wavelength, fwhm * widths.sigma, yerr=fwhm * widths.sigma_err, fmt="o", ms=3, color=DATA,
        label=f"windows, {len(chosen)} F and G stars",
    )  # fmt: skip
    wavelength = GRID.wavelength
    power = line_spread.resolving_power(wavelength)
    ax.plot(wavelength, wavelength / power, color=VERMILION, label="fifth order in each arm")
    ax.set(xlabel="wavelength [Angstrom]", ylabel="FWHM of the line spread [Angstrom]")
    ax.legend(frameon=False)
    save_figure(figure, options.out / "line_spread.png")
    print(f"line spread of {len(chosen)} stars: resolving power {power.min():.0f}-{power.max():.0f}")
    return line_spread


def real_stars(
    options: argparse.Namespace, line_spread: LineSpread, pixels: slice
) -> tuple[xr.Dataset, pd.DataFrame]:
    """Real A stars on the pixels of the training set, with the measured line spread, and their official labels."""
    official = pd.read_csv(options.labels)
    hot = official[(official["type"] == "A") & (official["teff"] > 8000) & (official["snrg"] > 50)]
    cube, hot = spectra_of(hot.head(20) if options.small else hot, options, "a_stars.zarr")
    # The survey's nominal line spread is replaced by the one that the training spectra have.
    cube = with_line_spread(cube.isel(wavelength=pixels), line_spread)
    return cube, hot.reset_index().assign(rv=lambda table: table["z"] * SPEED_OF_LIGHT)


def spectra_of(
    chosen: pd.DataFrame, options: argparse.Namespace, name: str
) -> tuple[xr.Dataset, pd.DataFrame]:
    """Spectra of the stars of a table, and the rows of the table in their order."""
    path = options.out / name
    ingest("lamost-lrs", [options.spectra / file for file in chosen["file"]], path, mode="overwrite")
    cube = specxr.open_cube(path).load()
    return cube, chosen.set_index("obsid").loc[cube["obsid"].values]


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


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--models", type=Path, default=SHARED / "doppler", help="folder of Cannon models (%(default)s)")
    add("--use", nargs="+", default=["hotdwarfs"], choices=["coolstars", "hotdwarfs"],
        help="models, cool before hot; both are blended from 7500 to 8500 K (hotdwarfs)")  # fmt: skip
    add(
        "--isochrones",
        type=Path,
        default=SHARED / "isochrones",
        help="folder of FSPS isochrones (%(default)s)",
    )
    add("--spectra", type=Path, default=SHARED / "lamost_dr10" / "fits",
        help="folder of LAMOST spectra (%(default)s)")  # fmt: skip
    add("--labels", type=Path, default=SHARED / "lamost_dr10" / "labels.csv",
        help="official labels: columns obsid, file, type, snrg, z, teff, logg and feh (%(default)s)")  # fmt: skip
    add("--methods", nargs="+", default=["payne", "slam"],
        choices=["payne", "payne_as_published", "slam", "slam_squared"], help="estimators (payne slam)")  # fmt: skip
    add("--window", nargs=2, type=float, default=GRID.wavelength[[0, -1]],
        help="first and last wavelength [Angstrom] (all of LAMOST's)")  # fmt: skip
    add("--n-train", type=int, default=HOT_STAR_TRAINING.slam_stars, help="training stars (%(default)s)")
    add("--n-test", type=int, default=1500, help="test stars at each S/N (%(default)s)")
    add("--out", type=Path, default=Path("hot_stars"), help="folder for all files (%(default)s)")
    add(
        "--small",
        action="store_true",
        help="a run of few stars and pixels that only shows that the recipe works",
    )
    options = parser.parse_args(argv)
    if not options.labels.exists():
        raise SystemExit(
            f"{options.labels} is absent; official labels are required. Set SPECXR_SHARED or give --labels."
        )
    if options.small:
        options.n_train, options.n_test = min(options.n_train, 60), min(options.n_test, 20)
        options.methods, options.window = ["slam_squared"], (4200.0, 4500.0)
    return options


if __name__ == "__main__":
    main()
