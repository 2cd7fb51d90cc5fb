"""A small simulated survey, LAMOST-like, with its true labels beside the spectra."""

from __future__ import annotations

import functools
import math

import dask.array as da
import numpy as np
import torch
import xarray as xr
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from specxr.cubes.schema import make_cube
from specxr.emulators import default
from specxr.emulators.polynomial import PolynomialEmulator
from specxr.kernels.broadening import convolve, gaussian_kernel
from specxr.kernels.refraction import air_to_vacuum
from specxr.readers.lamost_lrs import FIRST_INDEX, GRID, RESOLVING_POWER, STEP
from specxr.synthesis.stars import draw_stars
from specxr.vocabulary import LABELS, MASK_DTYPE, SPEED_OF_LIGHT, STAR, WAVELENGTH, MaskBit

TRUE_LABELS = ("rv", "teff", "logg", "feh")
BAD_FRACTION = 0.002  # of the pixels, hit by cosmic rays
DEAD_FRACTION = 0.001  # of the pixels, without inverse variance

# Lines are convolved on a grid so many times finer than the survey's, so that its pixels integrate over them.
_OVERSAMPLING = 3
# Pixels at the ends that shift and convolution reach from outside: five sigma of the line and of the velocities.
_MARGIN = 12
_SHAPE_DEGREE = 5


def simulate_survey(
    n_stars: int,
    seed: int = 0,
    snr: tuple[float, float] = (20.0, 200.0),
    emulator: PolynomialEmulator | None = None,
    chunk: int = 500,
) -> xr.Dataset:
    """Simulate spectra of a survey like LAMOST's at low resolution.

    Each spectrum is the emulator's, shifted and broadened to a resolving power of 1800, integrated over the
    pixels, multiplied by a random smooth shape and scale, with photon noise and some bad pixels.

    Parameters
    ----------
    n_stars : int
    seed : int, optional
        A star depends on it, on ``n_stars`` and on its place, never on the chunks.
    snr : (float, float), optional
        Signal-to-noise ratios per pixel at the median flux, uniform in their logarithm between these.
    emulator : PolynomialEmulator, optional
        Without it, the embedded one. Pixels that it does not cover are missing.
    chunk : int, optional
        Stars in a block.

    Returns
    -------
    Dataset
        A cube, lazy, with ``true_rv`` [km/s], ``true_teff`` [K], ``true_logg``, ``true_feh`` [dex] and ``snr``
        beside the spectra.
    """
    if n_stars < 1:
        raise ValueError(f"{n_stars} stars were asked for; at least one is required. Ask for more.")
    emulator = default() if emulator is None else emulator
    rng = np.random.default_rng([seed, 0])
    truth = draw_stars(n_stars, rng)
    stars = {f"true_{name}": truth[name] for name in TRUE_LABELS}
    stars |= {
        "snr": np.exp(rng.uniform(*np.log(snr), n_stars)),
        "ra": rng.uniform(0.0, 360.0, n_stars),
        "dec": np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, n_stars))),
    }

    blocks = xr.Dataset({name: (STAR, values) for name, values in stars.items()})
    blocks["number"] = (STAR, np.arange(n_stars))
    pixels = (
        (STAR, WAVELENGTH),
        da.zeros((n_stars, GRID.wavelength.size), chunks=(chunk, -1), dtype="float32"),
    )
    template = xr.Dataset({"flux": pixels, "ivar": pixels, "mask": (pixels[0], pixels[1].astype("uint8"))})
    spectra = xr.map_blocks(
        _observe, blocks.chunk({STAR: chunk}), kwargs={"emulator": emulator, "seed": seed}, template=template
    )

    cube = make_cube(
        spectra["flux"].data,
        spectra["ivar"].data,
        GRID,
        mask=spectra["mask"].data,
        obsid=np.arange(n_stars),
        stars=stars,
        attrs={
            "survey": "simulated",
            "history": f"specxr.synthesis.simulate_survey: {n_stars} stars, seed {seed}, S/N {snr[0]:g}-{snr[1]:g}",
            "emulator": emulator.name,
            "emulator_fingerprint": emulator.fingerprint,
        },
    )
    for name in TRUE_LABELS:
        label = LABELS[name]
        cube[f"true_{name}"].attrs = {"units": label.units, "long_name": f"true {label.long_name}"}
    cube["snr"].attrs = {"units": "1", "long_name": "signal-to-noise ratio per pixel at the median flux"}
    return cube


def _observe(stars: xr.Dataset, emulator: PolynomialEmulator, seed: int) -> xr.Dataset:
    """Spectra of one block of stars."""
    covered = _covered(emulator)
    ideal = _ideal_spectra(stars, emulator, covered)
    n_star, n_pixel = len(ideal), GRID.wavelength.size
    flux = np.zeros((n_star, n_pixel), dtype="float32")
    ivar = np.zeros((n_star, n_pixel), dtype="float32")
    mask = np.full((n_star, n_pixel), int(MaskBit.MISSING), dtype=MASK_DTYPE)
    # One generator a star, so that a star is the same whatever block it is in.
    for row, (number, snr) in enumerate(zip(stars["number"].values, stars["snr"].values, strict=True)):
        rng = np.random.default_rng([seed, 1, int(number)])
        spectrum = _expose(ideal[row], snr, rng)
        flux[row, covered], ivar[row, covered], mask[row, covered] = spectrum
    pixels = (STAR, WAVELENGTH)
    return xr.Dataset({"flux": (pixels, flux), "ivar": (pixels, ivar), "mask": (pixels, mask)})


@functools.lru_cache(maxsize=4)
def _covered(emulator: PolynomialEmulator) -> slice:
    """Pixels of the survey that the emulator covers, a margin at both ends left out."""
    ends = emulator.edges[[0, -1]]
    if emulator.medium == "air":
        ends = air_to_vacuum(ends)
    index = np.log10(ends) / STEP - FIRST_INDEX + 0.5  # of the pixel that each end falls in
    first = max(math.ceil(index[0]), 0) + _MARGIN
    stop = min(math.floor(index[1]), GRID.wavelength.size) - _MARGIN
    if stop <= first:
        raise ValueError(
            f"the emulator covers {ends[0]:.1f}-{ends[1]:.1f} Angstrom; part of 3700-9100 is required. "
            "Choose another emulator."
        )
    return slice(first, stop)


def _ideal_spectra(stars: xr.Dataset, emulator: PolynomialEmulator, covered: slice) -> NDArray[np.float64]:
    """Spectra without noise on the covered pixels, shape (star, pixel)."""
    n_fine = (covered.stop - covered.start + 2 * _MARGIN) * _OVERSAMPLING
    fine_step = STEP / _OVERSAMPLING
    start = (FIRST_INDEX + covered.start - _MARGIN - 0.5) * STEP
    edges = 10.0 ** (start + np.arange(n_fine + 1) * fine_step)

    labels = np.stack([stars[f"true_{name}"].values for name in ("teff", "logg", "feh")], axis=1)
    flux = emulator.on(edges, "vacuum").flux(torch.from_numpy(labels))
    ln_step = fine_step * math.log(10.0)
    shift = torch.from_numpy(np.log1p(stars["true_rv"].values / SPEED_OF_LIGHT) / ln_step)
    width = torch.full_like(shift, _line_width(emulator.resolving_power) / ln_step)
    margin = _MARGIN * _OVERSAMPLING
    kernel, _ = gaussian_kernel(shift, width, reach=margin)
    observed = convolve(flux[:, None], kernel[:, None])[:, 0].numpy()
    return observed[:, margin:-margin].reshape(len(observed), -1, _OVERSAMPLING).mean(axis=-1)


def _line_width(emulator_power: float | None) -> float:
    """Sigma in ln(wavelength) that brings the emulator's spectra to the survey's resolving power."""
    power = RESOLVING_POWER
    missing = power**-2 - (emulator_power**-2 if emulator_power else 0.0)
    if missing <= 0:
        raise ValueError(
            f"the emulator has a resolving power of {emulator_power:g}; more than {power:g} is required to "
            "simulate this survey. Choose another emulator."
        )
    return math.sqrt(missing) / (2.0 * math.sqrt(2.0 * math.log(2.0)))


def _expose(
    ideal: NDArray[np.float64], snr: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint8]]:
    """Flux, inverse variance and mask of one star as it is observed."""
    n_pixel = ideal.size
    # What extinction, sky and flux calibration do: a smooth shape of some tens of percent.
    slopes = rng.normal(0.0, 0.3, _SHAPE_DEGREE) / np.arange(1, _SHAPE_DEGREE + 1)
    shape = np.exp(chebyshev.chebval(np.linspace(-1.0, 1.0, n_pixel), [0.0, *slopes]))
    flux = ideal * shape
    median = np.median(flux)
    scale = 10.0 ** rng.uniform(1.0, 4.0) / median
    sigma = np.sqrt(np.clip(flux, 1e-3 * median, None) * median) / snr  # photon noise
    flux = flux + sigma * rng.normal(size=n_pixel)

    mask = np.zeros(n_pixel, dtype=MASK_DTYPE)
    hit = rng.random(n_pixel) < BAD_FRACTION
    flux[hit] += sigma[hit] * rng.uniform(20.0, 200.0, hit.sum())
    mask[hit] |= int(MaskBit.BAD_ALWAYS | MaskBit.NO_IVAR)
    dead = rng.random(n_pixel) < DEAD_FRACTION
    mask[dead] |= int(MaskBit.NO_IVAR)
    ivar = np.where(mask == 0, (scale * sigma) ** -2.0, 0.0)
    return flux * scale, ivar, mask
