"""Make the embedded emulator from the PyPI package ``thedoppler`` (MIT), and measure its difference from the source.

The source consists of two cubic Cannon models of continuum-normalised flux, not broadened, 3000-18000 Angstrom in
steps of 0.1 Angstrom in air. They are blended, brought to vacuum, broadened to R = 4000 and rebinned to a
third of LAMOST's pixels. With a temporary folder DIR:

    pip install --no-deps --target DIR thedoppler==1.1.32
    PYTHONPATH=DIR python recipes/build_default_emulator.py

With ``--check`` nothing is written; only the residuals of the committed emulator are printed. Otherwise two files are
written to ``--out``, which is the folder of the package's data by default. Expected time: two minutes on one core;
``--small`` takes some seconds once the package is there.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

import specxr
from specxr.emulators import PolynomialEmulator, open_emulator, write_safetensors
from specxr.kernels.rebin import rebin
from specxr.vocabulary import SPEED_OF_LIGHT

VERSION = "1.1.32"
FILES = (
    "cannongrid_3000_18000_coolstars_norm_cubic_model.pkl",
    "cannongrid_3000_18000_hotdwarfs_norm_cubic_model.pkl",
)
DATA = Path(specxr.__file__).parent / "data"
BLEND = (7500.0, 8500.0)  # range of the blend [K]; chosen by measurement, see docs/design/emulators.md

LAMOST = np.arange(35682 - 0.5, 39590 + 1.0) * 1e-4  # edges of LAMOST's pixels, log10 Angstrom
MARGIN = 20  # pixels of LAMOST beyond either end, for velocities and line wings
STEP = 1e-4 / 3
FINE = STEP / 10  # as fine as the pixels of the source
# Lines that are not broadened would alias on these pixels, with errors of 8e-4 (rms) at R = 1800.
RESOLVING_POWER = 4000.0
LAMOST_RESOLVING_POWER = 1800.0


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only measure the committed emulator")
    parser.add_argument(
        "--out", type=Path, default=DATA, help="folder for the emulator and its licence (%(default)s)"
    )
    parser.add_argument("--small", action="store_true", help="with --check: measure on a few stars only")
    options = parser.parse_args(argv)

    source, licence = read_source()
    if not options.check:
        options.out.mkdir(parents=True, exist_ok=True)
        write_safetensors(compact(source), options.out / "default_emulator.safetensors")
        origin = (
            "default_emulator.safetensors is derived from the Cannon models in the Python package\n"
            f"thedoppler {VERSION} (https://github.com/dnidever/doppler), which come under this licence:\n\n"
        )
        (options.out / "default_emulator.LICENSE").write_text(origin + licence)
    path = options.out / "default_emulator.safetensors"
    emulator = open_emulator(path)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, fingerprint {emulator.fingerprint[:16]}")
    print(f"difference from its source on LAMOST's pixels at R = {LAMOST_RESOLVING_POWER:.0f}:")
    for low, high in ((4300.0, BLEND[0]), BLEND, (BLEND[1], 25000.0)):
        for fastest in (0.0, 300.0):
            rms, largest = residual(source, emulator, (low, high), fastest, 3 if options.small else 50)
            print(f"  {low:5.0f}-{high:5.0f} K, to {fastest:3.0f} km/s:  rms {rms:.1e}  max {largest:.1e}")


def read_source() -> tuple[PolynomialEmulator, str]:
    """The two models of thedoppler as one emulator, on their own pixels, and thedoppler's licence."""
    spec = find_spec("doppler")
    try:
        package = distribution("thedoppler")
    except PackageNotFoundError:
        package = None
    if spec is None or spec.origin is None or package is None or package.version != VERSION:
        state = "not installed" if package is None else f"version {package.version}"
        raise SystemExit(f"thedoppler is {state}; {VERSION} is required. See the first lines of {__file__}.")
    models = [read_cannon(Path(spec.origin).parent / "data" / name) for name in FILES]
    wavelength, powers = models[0]["wavelength"], models[0]["powers"]
    near = (wavelength > 3600.0) & (wavelength < 9300.0)
    centre = wavelength[near]
    emulator = PolynomialEmulator(
        coefficients=np.stack([model["theta"][near].T for model in models]),
        edges=np.append(centre - 0.05, centre[-1] + 0.05),
        medium="air",
        powers=powers,
        fiducial=np.stack([model["fiducials"] for model in models]),
        scale=np.stack([model["scales"] for model in models]),
        knots=np.array([BLEND]),
        bounds={"teff": (4300.0, 25000.0), "logg": (0.0, 5.0), "feh": (-2.5, 0.5)},
        log_teff=False,
        name="default",
        citation="Nidever 2021, doppler, doi:10.5281/zenodo.4906680; Ness et al. 2015, ApJ 808, 16",
        licence="MIT, copyright 2019 David Nidever (thedoppler)",
    )
    (licence,) = (file for file in package.files or () if file.name == "LICENSE")
    return emulator, licence.read_text()


def read_cannon(path: Path) -> dict[str, np.ndarray]:
    # The package ships pickles of plain arrays, some from Python 2.
    state = pickle.loads(path.read_bytes(), encoding="latin1")
    _, vectorizer = state["vectorizer"]
    powers = np.zeros((len(vectorizer["terms"]) + 1, 3), dtype=np.int64)  # the first term is the constant
    for row, term in zip(powers[1:], vectorizer["terms"], strict=True):
        for label, power in term:
            row[label] += int(power)
    # Not stored: the Cannon scales labels by the median and the central 95 % of its training set.
    low, median, high = np.percentile(
        state["training_set_labels"].astype(np.float64), [2.5, 50.0, 97.5], axis=0
    )
    return {
        "wavelength": np.asarray(state["dispersion"], dtype=np.float64),
        "theta": np.asarray(state["theta"], dtype=np.float64),
        "powers": powers,
        "fiducials": median,
        "scales": high - low,
    }


def compact(source: PolynomialEmulator) -> PolynomialEmulator:
    """The source, broadened, on a log-uniform grid in vacuum, in float32."""
    fine = log_edges(FINE, margin=2 * MARGIN)
    edges = log_edges(STEP, margin=MARGIN)
    rows = broaden(source.on(fine, "vacuum").coefficients.numpy(), FINE, np.inf, RESOLVING_POWER)
    coefficients = rebin(torch.from_numpy(rows), fine, edges).numpy().astype(np.float32)
    return replace(
        source,
        coefficients=coefficients.reshape(*source.coefficients.shape[:2], -1),
        edges=edges,
        medium="vacuum",
        resolving_power=RESOLVING_POWER,
    )


def log_edges(step: float, margin: int) -> np.ndarray:
    """Edges of pixels of `step` in log10, over LAMOST's grid and `margin` of its pixels to either side."""
    start, stop = LAMOST[0] - margin * 1e-4, LAMOST[-1] + margin * 1e-4
    return 10.0 ** (start + step * np.arange(round((stop - start) / step) + 1))


def broaden(rows: np.ndarray, step: float, before: float, after: float) -> np.ndarray:
    """Rows on pixels of `step` in log10, brought from one resolving power to a lower one by a Gaussian."""
    fwhm = np.sqrt(after**-2.0 - before**-2.0)
    sigma = fwhm / np.sqrt(8.0 * np.log(2.0)) / (step * np.log(10.0))
    offset = np.arange(-int(6 * sigma) - 1, int(6 * sigma) + 2)
    kernel = np.exp(-0.5 * (offset / sigma) ** 2)
    return np.stack([np.convolve(row, kernel / kernel.sum(), mode="same") for row in rows])


def residual(
    source: PolynomialEmulator,
    emulator: PolynomialEmulator,
    teff: tuple[float, float],
    fastest: float,
    stars: int,
) -> tuple[float, float]:
    """Rms and largest difference at random labels of stars and velocities up to `fastest` km/s."""
    random = np.random.default_rng(20)
    labels = np.stack(
        [
            random.uniform(*teff, stars),
            random.uniform(2.5, 5.0, stars),
            random.uniform(-2.5, 0.5, stars),
        ],
        axis=1,
    )
    velocity = random.uniform(-fastest, fastest, stars)
    reference = as_observed(source, FINE, labels, velocity)
    difference = as_observed(emulator, STEP, labels, velocity) - reference
    return float(np.sqrt(np.mean(difference**2))), float(np.abs(difference).max())


def as_observed(
    emulator: PolynomialEmulator, step: float, labels: np.ndarray, velocity: np.ndarray
) -> np.ndarray:
    """Spectra broadened on pixels of `step`, then shifted and rebinned to LAMOST's pixels."""
    edges = log_edges(step, MARGIN)
    flux = emulator.on(edges, "vacuum").flux(torch.from_numpy(labels)).numpy()
    flux = broaden(flux, step, emulator.resolving_power or np.inf, LAMOST_RESOLVING_POWER)
    observed = []
    for star, shift in zip(flux, velocity, strict=True):
        # The outermost pixels lack a part of the kernel: leave out as many of LAMOST's as the margin.
        lamost = 10.0 ** LAMOST[MARGIN:-MARGIN] / (1.0 + shift / SPEED_OF_LIGHT)
        observed.append(rebin(torch.from_numpy(star), edges, lamost).numpy())
    return np.stack(observed)


if __name__ == "__main__":
    main()
