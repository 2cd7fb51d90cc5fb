"""Why the Cannon models of thedoppler give real F and G stars an [Fe/H] that is 0.4 dex too low.

    python recipes/cannon_line_strengths.py --out docs/images --synthesis sun.npz

The recipe fits spectra without noise with these models. The spectra are those of ELODIE's emulator for known labels.
It repeats the fit with other resolving powers, degrees of the shape polynomial and windows, and compares the depths of
lines at R = 10,000. It then fits LAMOST DR10 with the models, with lines that are made shallower, and maps the labels
onto the official ones. All files are in the folder that the environment variable SPECXR_SHARED names. Expected time:
three minutes on one core; `--small` takes some seconds.

The file of `--synthesis` holds the spectrum of the Sun, computed line by line. It is made with PySME, in a separate
environment (docs/methods/training.md); without it, the rows that need it are left out:

    python recipes/cannon_line_strengths.py --synthesise --out .
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

import specxr
from specxr.cubes.ingestion import ingest
from specxr.cubes.tables import label_table
from specxr.emulators import PolynomialEmulator, open_emulator
from specxr.estimators.base import Block
from specxr.kernels.rebin import rebin
from specxr.readers.lamost_lrs import GRID
from specxr.validation import robust_scatter
from specxr.vocabulary import MASK_DTYPE

SHARED = Path(os.environ.get("SPECXR_SHARED", "../shared")) / "data"
ELODIE = SHARED / "elodie" / "elodie32_flux_tgm_4199_5700.fits"
MODELS = [f"doppler/cannon_cubic_{kind}_3000_11000.npz" for kind in ("coolstars", "hotdwarfs")]
LABELS = ("teff", "logg", "feh")
WINDOW = (4210.0, 5690.0)
FINE = 1e-4 / 6  # pixels of the spectra at R = 10,000, in log10
_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))
STARS = (
    (4800.0, 2.5), (4800.0, 4.6), (5200.0, 3.2), (5200.0, 4.5), (5777.0, 4.44), (6200.0, 4.2), (6600.0, 4.2),
)  # fmt: skip
FEH = (-1.0, -0.5, 0.0, 0.3)
DEPTHS = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.9)
SUN = (5770.0, 4.44)
SYNTHESISED = ((0.0, 1.0), (0.0, 2.0), (0.2, 1.0), (-0.2, 1.0))  # [Fe/H], microturbulence [km/s]
LINES = (5295.0, 5453.0)  # Angstrom, air; there are few molecules and no Balmer lines


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--synthesise", action="store_true",
        help="only compute the spectrum of the Sun with PySME, into sun.npz in the folder of --out")  # fmt: skip
    add("--synthesis", type=Path, help="the file that --synthesise wrote (none)")
    add("--out", type=Path, default=Path("figures"), help="folder for all files (%(default)s)")
    add("--small", action="store_true", help="a run with few stars that only shows that the recipe works")
    options = parser.parse_args(argv)
    if not SHARED.is_dir():
        raise SystemExit(f"{SHARED} is absent; the shared data are required. Set SPECXR_SHARED.")
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.synthesise:
        synthesise(options.out / "sun.npz")
        return
    elodie = open_emulator(ELODIE)
    offsets = without_noise(elodie, options.small)
    ratios = line_depths(elodie, options.synthesis)
    mended(options.small)
    draw(offsets, ratios, options.out / "cannon_line_strengths.png")


def cannon(resolving_power: float, step: float = FINE) -> PolynomialEmulator:
    """The two models at 4170-5740 Angstrom in air, broadened, on pixels of `step` in log10."""
    models = [dict(np.load(SHARED / name)) for name in MODELS]
    near = (models[0]["wave_air"] > 4140) & (models[0]["wave_air"] < 5770)
    centre = models[0]["wave_air"][near]
    whole = PolynomialEmulator(
        coefficients=np.stack([model["theta"][near].T for model in models]),
        edges=np.append(centre - 0.05, centre[-1] + 0.05),
        medium="air",
        powers=models[0]["powers"].astype(np.int64),
        fiducial=np.stack([model["fiducials"].astype("f8") for model in models]),
        scale=np.stack([model["scales"].astype("f8") for model in models]),
        knots=np.array([[7500.0, 8500.0]]),
        bounds={"teff": (4300.0, 25000.0), "logg": (0.0, 5.0), "feh": (-2.5, 0.5)},
        log_teff=False,
        name="Cannon",
    )
    fine = 10.0 ** np.arange(np.log10(4150.0), np.log10(5760.0), step / 5)
    edges = 10.0 ** np.arange(np.log10(4170.0), np.log10(5740.0), step)
    rows = broaden(whole.on(fine, "air").coefficients.numpy(), step / 5, np.inf, resolving_power)
    rows = rebin(torch.from_numpy(rows), fine, edges).numpy()
    shape = (*whole.coefficients.shape[:2], -1)
    return replace(whole, coefficients=rows.reshape(shape), edges=edges, resolving_power=resolving_power)


def broaden(flux: NDArray[np.float64], step: float, before: float, after: float) -> NDArray[np.float64]:
    """Spectra on pixels of `step` in log10, brought from one resolving power to a lower one."""
    width = np.sqrt(after**-2.0 - before**-2.0) / _FWHM / (step * np.log(10.0))
    return gaussian_filter1d(flux, width, axis=-1, mode="nearest")


def spectrum(emulator: PolynomialEmulator, edges: NDArray[np.float64], *labels: float) -> NDArray[np.float64]:
    return emulator.on(edges, "air").flux(torch.tensor([labels], dtype=torch.float64))[0].numpy()


def without_noise(elodie: PolynomialEmulator, small: bool) -> NDArray[np.float64]:
    """Print the labels that the Cannon models give for ELODIE's spectra; return errors of [Fe/H], shape (star, feh)."""
    inside = np.flatnonzero((GRID.wavelength > 4203) & (GRID.wavelength < 5699))
    grid = GRID[slice(inside[0], inside[-1] + 1)]
    true = np.array([(*star, feh) for star in STARS for feh in FEH])
    flux = elodie.on(grid.edges, grid.medium).flux(torch.from_numpy(true)).numpy()
    flux = broaden(flux, grid.step, 10000.0, 1800.0).astype("f4")
    block = Block(grid, flux, np.ones_like(flux), np.zeros(flux.shape, dtype=MASK_DTYPE))
    dwarfs = (true[:, 0] >= 5200) & (true[:, 1] > 4) & (true[:, 2] > -0.9)
    print(
        "ELODIE's spectra at R = 1800, fitted with the Cannon models: inferred minus true, F and G dwarfs; cost"
    )

    def fit(name: str, power: float, **options: object) -> NDArray[np.float64]:
        lasp = specxr.LASP(cannon(power, 1e-4 / 3), **{"window": WINDOW, **options})  # type: ignore[arg-type]
        out = lasp.estimate(block)
        off = np.stack([out[label] for label in LABELS], axis=1) - true
        middle = np.median(off[dwarfs], axis=0)
        print(
            f"  {name:28s} {middle[0]:+5.0f} K {middle[1]:+.3f} {middle[2]:+.3f}   {np.median(out['chi2'][dwarfs]):.3f}"
        )
        return off

    off = fit("R = 4000, degree 50", 4000.0)
    if small:
        return off[:, 2].reshape(len(STARS), len(FEH))
    for power in (3000.0, 6000.0, 10000.0, 20000.0):
        fit(f"R = {power:.0f}", power)
    for degree in (5, 15, 30, 80, 120):
        fit(f"R = 4000, degree {degree}", 4000.0, degree=degree)
    for window in ((4210.0, 4700.0), (4700.0, 5200.0), (5200.0, 5690.0)):
        fit(f"{window[0]:.0f}-{window[1]:.0f} Angstrom", 4000.0, window=window, degree=17)
    return off[:, 2].reshape(len(STARS), len(FEH))


def line_depths(elodie: PolynomialEmulator, synthesis: Path | None) -> dict[str, NDArray[np.float64]]:
    """Print and return ratios of the depths of the Sun's lines at R = 10,000, by depth."""
    edges = 10.0 ** np.arange(np.log10(4210.0), np.log10(5680.0), FINE)
    source = cannon(10000.0)
    ours, theirs = (spectrum(emulator, edges, *SUN, 0.0) for emulator in (elodie, source))
    ratios = {"Cannon / ELODIE, 4210-5680 A": depth_ratio(theirs, on_level_of(ours, theirs))}
    if synthesis is not None:
        edges = 10.0 ** np.arange(*np.log10(LINES), FINE)
        with np.load(synthesis) as file:
            sun = {key: at_10000(file["edges"], file[key], edges) for key in file if key != "edges"}
        slow, fast = sun["0.0 1.0"], sun["0.0 2.0"]
        theirs = spectrum(source, edges, *SUN, 0.0)
        ratios["Cannon / LTE at 1 km/s"] = depth_ratio(theirs, slow)
        ratios["Cannon / LTE at 2 km/s"] = depth_ratio(theirs, fast)
        ratios["LTE at 2 km/s / at 1 km/s"] = depth_ratio(fast, slow)
        for name, emulator in (("Cannon", source), ("ELODIE", elodie)):
            read = ", ".join(
                f"{metallicity(emulator, edges, flux):+.2f} ([Fe/H] {key.split()[0]}, {key.split()[1]} km/s)"
                for key, flux in sun.items()
            )
            print(f"[Fe/H] that {name} reads in LTE spectra of the Sun: {read}")
    print("depths of lines, ratio by depth of the second: " + " ".join(map(str, DEPTHS)))
    for name, ratio in ratios.items():
        print(f"  {name:30s} " + " ".join(f"{value:.2f}" for value in ratio))
    return ratios


def on_level_of(
    flux: NDArray[np.float64], model: NDArray[np.float64], degree: int = 15
) -> NDArray[np.float64]:
    """Flux divided by the polynomial of wavelength that brings the model closest to it."""
    basis = chebyshev.chebvander(np.linspace(-1.0, 1.0, len(flux)), degree)
    shape = np.linalg.lstsq(basis * model[:, None], flux, rcond=None)[0]
    return flux / (basis @ shape)


def depth_ratio(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median ratio of the depths of lines in bins of depth; lines are the minima of the second spectrum."""
    line = np.flatnonzero((second[1:-1] < second[2:]) & (second[1:-1] < second[:-2]))[2:-2] + 1
    depth = 1.0 - second[line]
    ratio = (1.0 - np.min([first[line + k] for k in range(-2, 3)], axis=0)) / depth
    borders = zip(DEPTHS[:-1], DEPTHS[1:], strict=True)
    groups = [ratio[(depth > low) & (depth <= high)] for low, high in borders]
    return np.array([np.median(group) if len(group) > 2 else np.nan for group in groups])


def at_10000(
    edges: NDArray[np.float64], flux: NDArray[np.float64], onto: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A spectrum of infinite resolving power, brought to R = 10,000."""
    fine = 10.0 ** np.arange(np.log10(edges[1]), np.log10(edges[-2]), FINE / 10)
    row = rebin(torch.from_numpy(flux[None].astype("f8")), edges, fine).numpy()
    return rebin(torch.from_numpy(broaden(row, FINE / 10, np.inf, 10000.0)), fine, onto).numpy()[0]


def metallicity(emulator: PolynomialEmulator, edges: NDArray[np.float64], flux: NDArray[np.float64]) -> float:
    """The [Fe/H] whose spectrum is closest at the Sun's Teff and logg, R = 1800, with a shape of third degree."""
    seen = broaden(flux, FINE, 10000.0, 1800.0)
    tried = np.arange(-0.9, 0.41, 0.02)
    cost = []
    for feh in tried:
        model = broaden(spectrum(emulator, edges, *SUN, feh), FINE, 10000.0, 1800.0)
        level = on_level_of(seen, model, 3)
        cost.append(np.sum((seen - model * seen / level) ** 2))
    return float(tried[np.argmin(cost)])


def mended(small: bool) -> None:
    """Print how well the models fit LAMOST DR10 with shallower lines and with labels mapped onto the official ones."""
    folder = SHARED / "lamost_dr10"
    with TemporaryDirectory() as temporary:
        path = Path(temporary) / "dr10.zarr"
        files = sorted((folder / "fits").glob("*.fits.gz"))[:: 10 if small else 1]
        ingest("lamost-lrs", files, path, workers=1)
        cube = specxr.open_cube(path).load()
    table = pd.read_csv(folder / "labels.csv").set_index("obsid").loc[cube["obsid"].values]
    true, bright = table[list(LABELS)].to_numpy(), (table["snrg"] > 50).to_numpy()
    groups = {kind: (table["type"] == kind).to_numpy() & bright for kind in "GF"}
    groups["A 7,500-9,500 K"] = (
        (table["type"] == "A").to_numpy() & bright & (true[:, 0] > 7500) & (true[:, 0] < 9500)
    )
    learnt = np.arange(len(table)) % 2 == 0
    print(
        "LAMOST DR10, S/N_g > 50, inferred minus official, for lines times a factor | the other half, labels mapped"
    )
    for factor in (1.0,) if small else (1.0, 0.85, 0.75):
        found = label_table(specxr.infer(cube, specxr.LASP(shallower(cannon(4000.0, 1e-4 / 3), factor))))
        labels, good = found[list(LABELS)].to_numpy(), (found["result"] == "converged").to_numpy()
        print(f"  factor {factor}, converged {good.mean():.1%}")
        for name, inside in groups.items():
            rows = inside & good
            # F and G stars share one map, a quadratic of the three labels.
            teaches = (groups["G"] | groups["F"] if name in "GF" else inside) & good & learnt
            mapped = labels + quadratic(labels[teaches], (true - labels)[teaches], labels)
            print(
                f"    {name:16s} {spread((labels - true)[rows])}  |  {spread((mapped - true)[rows & ~learnt])}"
            )


def shallower(emulator: PolynomialEmulator, factor: float) -> PolynomialEmulator:
    """An emulator whose line depths, 1 - flux, are multiplied by a factor."""
    rows = emulator.coefficients * factor
    rows[:, (emulator.powers == 0).all(axis=1)] += 1.0 - factor
    return replace(emulator, coefficients=rows)


def quadratic(
    x: NDArray[np.float64], y: NDArray[np.float64], onto: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A robust quadratic of the labels that is fitted to y at x, evaluated at other labels."""
    powers = np.array([(a, b, c) for a in range(3) for b in range(3) for c in range(3) if a + b + c <= 2])

    def terms(labels: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled = np.column_stack(
            [(np.log10(labels[:, 0]) - 3.77) / 0.1, labels[:, 1] - 4, labels[:, 2] + 0.3]
        )
        return np.prod(scaled[:, None] ** powers, axis=2)

    columns = []
    for target in y.T:
        weight = np.ones(len(x))
        for _ in range(10):
            row = np.linalg.lstsq(terms(x) * weight[:, None], target * weight, rcond=None)[0]
            away = target - terms(x) @ row
            weight = (1.0 + (away / (2.0 * 1.4826 * np.median(np.abs(away)))) ** 2) ** -0.5
        columns.append(terms(onto) @ row)
    return np.stack(columns, axis=1)


def spread(difference: NDArray[np.float64]) -> str:
    """Median and 1.48 MAD of the three labels."""
    columns = zip(difference.T, (0, 3, 3), strict=True)
    return "  ".join(f"{np.median(c):+8.{d}f} +- {robust_scatter(c):.{d}f}" for c, d in columns)


def draw(offsets: NDArray[np.float64], ratios: dict[str, NDArray[np.float64]], path: Path) -> None:
    """Draw the offset in [Fe/H] and the ratios of depths."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (teff, logg), offset in zip(STARS, offsets, strict=True):
        left.plot(FEH, offset, marker="o", ms=3, label=f"{teff:.0f} K, {logg}")
    left.set(
        xlabel="[Fe/H] of ELODIE's spectrum", ylabel="inferred - true", title="Read with the Cannon models"
    )
    left.legend(fontsize=7, title="Teff, log g", title_fontsize=7)
    middle = 0.5 * (np.array(DEPTHS[1:]) + np.array(DEPTHS[:-1]))
    for name, ratio in ratios.items():
        right.plot(middle, ratio, marker="o", ms=3, label=name, ls="--" if name.startswith("LTE") else "-")
    right.axhline(1.0, color="0.7", lw=0.8)
    right.set(xlabel="depth of the line at R = 10,000", ylabel="ratio of depths", title="Lines of the Sun")
    right.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def synthesise(path: Path) -> None:
    """Compute the spectrum of the Sun line by line, 5290-5460 Angstrom."""
    from specxr.synthesis.atmospheres import read_atmosphere
    from specxr.synthesis.pysme import PySMESpectra

    folder, edges = SHARED / "synthesis", np.arange(5290.0, 5460.0, 0.02)
    generator = PySMESpectra(
        [read_atmosphere(folder / "at12_aaaaa_t05770g4.44.atm")],
        [folder / "moogatom05000.gz"],
        edges,
        ("teff", "logg", "feh", "vmic"),
    )
    spectra = generator.spectra(np.array([(*SUN, *star) for star in SYNTHESISED]))
    stars = {f"{feh} {vmic}": flux for (feh, vmic), flux in zip(SYNTHESISED, spectra, strict=True)}
    np.savez(path, edges=edges, **stars)


if __name__ == "__main__":
    main()
