"""Simulated surveys like LAMOST's, with the true labels beside the spectra: small and exact, or large and fast."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, cast

import dask.array as da
import numpy as np
import torch
import xarray as xr
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike, NDArray

from specxr.cubes.schema import make_cube
from specxr.emulators import default
from specxr.emulators.polynomial import PolynomialEmulator
from specxr.kernels.broadening import convolve, gaussian_kernel
from specxr.kernels.refraction import air_to_vacuum
from specxr.readers.lamost_lrs import FIRST_INDEX, GRID, RESOLVING_POWER, STEP
from specxr.spectra.grid import Grid
from specxr.synthesis.stars import draw_stars, weights_of_types
from specxr.vocabulary import (
    LABELS,
    MASK_DTYPE,
    SPECTRA,
    SPEED_OF_LIGHT,
    STAR,
    VARIABLES,
    WAVELENGTH,
    MaskBit,
)

TRUE_LABELS = ("rv", "teff", "logg", "feh")
BAD_FRACTION = 0.002  # share of the pixels that cosmic rays hit
DEAD_FRACTION = 0.001  # share of the pixels without inverse variance

# Pixels of `simulate_bulk` among those of LAMOST: 4200 to 5700 Angstrom, 1,327 pixels.
BULK_WINDOW = slice(550, 1877)

# Lines are convolved on finer pixels, this many to a pixel of the survey, so that its pixels integrate over them.
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
    pixels, multiplied by a random smooth shape and scale, with photon noise and bad pixels.

    Parameters
    ----------
    n_stars : int
    seed : int, optional
        A star depends on it, on ``n_stars`` and on its place, never on the chunks.
    snr : (float, float), optional
        Range of the signal-to-noise ratio per pixel at the median flux, which is uniform in its logarithm.
    emulator : PolynomialEmulator, optional
        Emulator of the spectra; the embedded one by default. Pixels that it does not cover are missing.
    chunk : int, optional
        Number of stars in a block.

    Returns
    -------
    Dataset
        A cube, lazy, with ``true_rv`` [km/s], ``true_teff`` [K], ``true_logg``, ``true_feh`` [dex] and ``snr``
        beside the spectra.

    Raises
    ------
    ValueError
        No star is requested, or the emulator does not cover the survey's pixels or is too coarse for them.
    """
    if n_stars < 1:
        raise ValueError(f"{n_stars} stars are requested; at least one is required. Request more.")
    emulator = default() if emulator is None else emulator
    rng = np.random.default_rng([seed, 0])
    truth = draw_stars(n_stars, rng)
    stars = {f"true_{name}": truth[name] for name in TRUE_LABELS}
    stars |= {
        "snr": np.exp(rng.uniform(np.log(snr[0]), np.log(snr[1]), n_stars)),
        "ra": rng.uniform(0.0, 360.0, n_stars),
        "dec": np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, n_stars))),
    }
    blocks = xr.Dataset({name: (STAR, values) for name, values in stars.items()})
    blocks["number"] = (STAR, np.arange(n_stars))
    spectra = xr.map_blocks(
        _observe,
        blocks.chunk({STAR: chunk}),
        kwargs={"emulator": emulator, "seed": seed},
        template=_template(n_stars, GRID, chunk),
    )
    attrs = {
        "history": f"specxr.synthesis.simulate_survey: {n_stars} stars, seed {seed}, S/N {snr[0]:g}-{snr[1]:g}",
        "emulator": emulator.name,
        "emulator_fingerprint": emulator.fingerprint,
    }
    return _as_cube(spectra, GRID, stars, attrs)


def simulate_bulk(
    n_stars: int,
    chunk: int,
    seed: int = 0,
    snr: tuple[float, float] = (20.0, 200.0),
    n_models: int = 2000,
    shares: Mapping[str, float] | None = None,
) -> xr.Dataset:
    """Simulate any number of spectra between 4200 and 5700 Angstrom, as fast as they can be written.

    A star is one of a few thousand stars of `simulate_survey`, drawn at random, on a scale of its own, with photon
    noise and bad pixels of its own; labels and shapes of the spectra repeat.

    Parameters
    ----------
    n_stars : int
    chunk : int
        Number of stars in a block.
    seed : int, optional
        A block depends on it, on its place and on `chunk`.
    snr : (float, float), optional
        Range of the signal-to-noise ratio per pixel at the median flux, which is uniform in its logarithm.
    n_models : int, optional
        Number of stars that the others repeat.
    shares : mapping of str to float, optional
        Shares of the spectral types K, G, F and A; without it, a third of the stars are hotter than 7,000 K.

    Returns
    -------
    Dataset
        A cube, lazy, with ``true_rv`` [km/s], ``true_teff`` [K], ``true_logg``, ``true_feh`` [dex] and ``snr``
        beside the spectra.
    """
    rng = np.random.default_rng([seed, 0])
    models = simulate_survey(n_models, seed)
    weights = None if shares is None else weights_of_types(models["true_teff"].values, shares)
    model = rng.choice(n_models, n_stars, p=weights)
    ratio = np.exp(rng.uniform(np.log(snr[0]), np.log(snr[1]), n_stars))
    truth = {f"true_{name}": models[f"true_{name}"].values[model] for name in TRUE_LABELS}

    grid = GRID[BULK_WINDOW]
    blocks = xr.Dataset({"model": (STAR, model), "snr": (STAR, ratio)}).chunk({STAR: chunk})
    blocks["number"] = (STAR, da.arange(n_stars, chunks=chunk))
    spectra = xr.map_blocks(
        _observe_again,
        blocks,
        kwargs={"seed": seed, "n_models": n_models},
        template=_template(n_stars, grid, chunk),
    )
    history = f"specxr.synthesis.survey.simulate_bulk: {n_stars} stars, {n_models} models, seed {seed}"
    if shares is not None:
        history += f", shares {dict(shares)}"
    return _as_cube(spectra, grid, {**truth, "snr": ratio}, {"history": history})


def _template(n_stars: int, grid: Grid, chunk: int) -> xr.Dataset:
    """Lazy arrays of the shape and types of the spectra, for `map_blocks`."""
    empty = da.zeros((n_stars, grid.wavelength.size), chunks=(chunk, -1), dtype="float32")
    pixels = (STAR, WAVELENGTH)
    return xr.Dataset({name: (pixels, empty.astype(VARIABLES[name].dtype)) for name in SPECTRA})


def _as_cube(
    spectra: xr.Dataset, grid: Grid, stars: Mapping[str, ArrayLike], attrs: Mapping[str, Any]
) -> xr.Dataset:
    """Cube of simulated spectra, its true labels described."""
    cube = make_cube(
        spectra["flux"].data,
        spectra["ivar"].data,
        grid,
        mask=spectra["mask"].data,
        obsid=np.arange(spectra.sizes[STAR]),
        stars=stars,
        attrs={"survey": "simulated", **attrs},
    )
    for name in TRUE_LABELS:
        label = LABELS[name]
        cube[f"true_{name}"].attrs = {"units": label.units, "long_name": f"true {label.long_name}"}
    cube["snr"].attrs = VARIABLES["snr"].attrs
    return cube


@functools.lru_cache(maxsize=1)
def _models(n_models: int, seed: int) -> NDArray[np.float32]:
    """Spectra almost without noise, in units of their median, shape (model, pixel); made once in a process."""
    flux = simulate_survey(n_models, seed, snr=(1e5, 1e5))["flux"][:, BULK_WINDOW].values
    return cast("NDArray[np.float32]", flux / np.median(flux, axis=1, keepdims=True))


def _observe_again(stars: xr.Dataset, seed: int, n_models: int) -> xr.Dataset:
    """Spectra of one block of `simulate_bulk`: all at once, and in single precision."""
    rng = np.random.default_rng([seed, 1, int(stars["number"].values[0])])
    flux = _models(n_models, seed)[stars["model"].values]
    scale = np.float32(10.0) ** rng.uniform(1.0, 4.0, (len(flux), 1)).astype("f4")
    sigma = np.sqrt(np.maximum(flux, np.float32(1e-3))) / stars["snr"].values.astype("f4")[:, None]
    flux = flux + sigma * rng.standard_normal(flux.shape, dtype="f4")
    chance = rng.random(flux.shape, dtype="f4")
    hit, dead = chance < BAD_FRACTION, chance > 1.0 - DEAD_FRACTION
    flux = np.where(hit, flux + 100.0 * sigma, flux) * scale
    mask = np.where(hit, int(MaskBit.BAD_ALWAYS | MaskBit.NO_IVAR), np.where(dead, int(MaskBit.NO_IVAR), 0))
    ivar = np.where(hit | dead, np.float32(0), (scale * sigma) ** np.float32(-2))
    pixels = (STAR, WAVELENGTH)
    return xr.Dataset(
        {"flux": (pixels, flux), "ivar": (pixels, ivar), "mask": (pixels, mask.astype(MASK_DTYPE))}
    )


def _observe(stars: xr.Dataset, emulator: PolynomialEmulator, seed: int) -> xr.Dataset:
    """Spectra of one block of stars."""
    covered = _covered(emulator)
    ideal = _ideal_spectra(stars, emulator, covered)
    n_star, n_pixel = len(ideal), GRID.wavelength.size
    flux = np.zeros((n_star, n_pixel), dtype="float32")
    ivar = np.zeros((n_star, n_pixel), dtype="float32")
    mask = np.full((n_star, n_pixel), int(MaskBit.MISSING), dtype=MASK_DTYPE)
    # Each star has a random generator of its own, so that it is the same in any block.
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
    index = np.log10(ends) / STEP - FIRST_INDEX + 0.5  # pixel that each end falls in
    first = max(math.ceil(index[0]), 0) + _MARGIN
    stop = min(math.floor(index[1]), GRID.wavelength.size) - _MARGIN
    if stop <= first:
        raise ValueError(
            f"the emulator covers {ends[0]:.1f}-{ends[1]:.1f} Angstrom; a part of 3700-9100 is required. "
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
    fine = observed[:, margin:-margin].reshape(len(observed), -1, _OVERSAMPLING)
    return cast("NDArray[np.float64]", fine.mean(axis=-1))


def _line_width(emulator_power: float | None) -> float:
    """Sigma in ln(wavelength) that brings the emulator's spectra to the survey's resolving power."""
    power = RESOLVING_POWER
    missing = power**-2 - (emulator_power**-2 if emulator_power else 0.0)
    if missing <= 0:
        raise ValueError(
            f"the emulator has a resolving power of {emulator_power:g}; more than {power:g} is required to simulate "
            "this survey. Choose another emulator."
        )
    return math.sqrt(missing) / (2.0 * math.sqrt(2.0 * math.log(2.0)))


def _expose(
    ideal: NDArray[np.float64], snr: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint16]]:
    """Flux, inverse variance and mask of one star as it is observed."""
    n_pixel = ideal.size
    # Extinction, sky and flux calibration change the shape of a spectrum smoothly, by tens of percent.
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
