"""Spectra that are not of one normal star: made from numbers, and from the spectra of real or simulated stars.

Each function gives blocks whose inverse variance is true to their noise, so that nothing but the spectrum gives it
away.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specxr.estimators.base import Block
from specxr.spectra.grid import Grid
from specxr.vocabulary import SPEED_OF_LIGHT

Array = NDArray[Any]
HALF_SEPARATION = 150.0  # km/s, of the two stars of a binary


def block_of(grid: Grid, flux: Array, sigma: Array | float) -> Block:
    """A block of spectra with this noise, every pixel good."""
    ivar = 1.0 / np.broadcast_to(np.square(sigma), flux.shape)
    return Block(grid, flux.astype("f4"), ivar.astype("f4"), np.zeros(flux.shape, "u2"))


def with_noise(grid: Grid, flux: Array, snr: Array | float, rng: np.random.Generator) -> Block:
    """Spectra with white noise, at a signal-to-noise ratio at the median flux."""
    sigma = np.median(np.abs(flux), axis=1, keepdims=True) / np.reshape(snr, (-1, 1))
    return block_of(grid, flux + sigma * rng.normal(size=flux.shape), sigma)


def noise(grid: Grid, n: int, seed: int = 0) -> dict[str, Block]:
    """Noise, constants and smooth curves: spectra without a line."""
    rng = np.random.default_rng(seed)
    shape = (n, len(grid.wavelength))
    x = np.linspace(-1, 1, shape[1])
    curves = 1 + np.polynomial.chebyshev.chebval(x, rng.normal(0, 0.1, (9, n)))
    temperature = rng.uniform(3000, 20000, (n, 1))
    planck = grid.wavelength**-5 / np.expm1(1.4388e8 / (grid.wavelength * temperature))
    flat = np.ones(shape)
    return {
        "uniform noise": block_of(grid, rng.uniform(0, 1, shape), 1 / np.sqrt(12)),
        "white noise": block_of(grid, rng.normal(0, 1, shape), 1.0),
        "flat, S/N 2": with_noise(grid, flat, 2, rng),
        "flat, S/N 10": with_noise(grid, flat, 10, rng),
        "flat, S/N 100": with_noise(grid, flat, 100, rng),
        "constant": block_of(grid, flat * rng.uniform(1, 100, (n, 1)), 0.01),
        "smooth curve, S/N 50": with_noise(grid, curves, 50, rng),
        "smooth curve, no noise": block_of(grid, curves, 0.01),
        "black body, S/N 100": with_noise(grid, planck / planck.mean(axis=1, keepdims=True), 100, rng),
    }


def spoilt(stars: Block, seed: int = 0) -> dict[str, Block]:
    """Spectra of stars that were cut up, mixed or drowned in noise."""
    rng = np.random.default_rng(seed)
    n, n_pixel = stars.flux.shape
    order = rng.permuted(np.tile(np.arange(n_pixel), (n, 1)), axis=1)
    parts = np.array_split(np.arange(n_pixel), 30)
    pieces = np.stack([np.concatenate([parts[i] for i in rng.permutation(30)]) for _ in range(n)])
    backwards = np.tile(np.arange(n_pixel)[::-1], (n, 1))
    blue = np.arange(n_pixel) < n_pixel // 2
    other = np.roll(np.arange(n), 1)
    return {
        "permuted pixels": _taken(stars, order),
        "permuted pieces": _taken(stars, pieces),
        "reversed": _taken(stars, backwards),
        "blue half zero": replace(stars, flux=np.where(blue, 0, stars.flux)),
        "red half zero": replace(stars, flux=np.where(blue, stars.flux, 0)),
        "degraded to S/N 1": degraded(stars, 1, rng),
        "degraded to S/N 3": degraded(stars, 3, rng),
        "two stars, +-150 km/s": binaries(stars, other),
        "half of each of two stars": chimeras(stars, other),
    }


def _taken(block: Block, order: Array) -> Block:
    return replace(
        block, **{k: np.take_along_axis(getattr(block, k), order, axis=1) for k in ("flux", "ivar", "mask")}
    )


def degraded(stars: Block, snr: float, rng: np.random.Generator) -> Block:
    """The stars with more noise, so that this is their median signal-to-noise ratio."""
    level = np.median(stars.flux, axis=1, keepdims=True)
    sigma = np.abs(level) / snr
    flux = stars.flux + sigma * rng.normal(size=stars.flux.shape)
    with np.errstate(divide="ignore"):
        ivar = np.where(stars.ivar > 0, 1 / (1 / stars.ivar + sigma**2), 0)
    return replace(stars, flux=flux.astype("f4"), ivar=ivar.astype("f4"))


def shifted(block: Block, velocity: float) -> Block:
    """The spectra at another velocity [km/s], by linear interpolation."""
    index = np.arange(block.flux.shape[1])
    at = index - np.log1p(velocity / SPEED_OF_LIGHT) / block.grid.ln_step
    flux = np.stack([np.interp(at, index, row) for row in block.flux])
    return replace(block, flux=flux.astype("f4"))


def binaries(stars: Block, other: Array) -> Block:
    """Each star at +150 km/s and, as bright, another at -150 km/s."""
    one, two = shifted(stars, HALF_SEPARATION), shifted(stars, -HALF_SEPARATION)
    level = np.median(stars.flux, axis=1, keepdims=True)
    ratio = level / level[other]
    with np.errstate(divide="ignore"):
        ivar = 1 / (1 / stars.ivar + ratio**2 / stars.ivar[other])
    flux = one.flux + ratio * two.flux[other]
    return replace(stars, flux=flux.astype("f4"), ivar=ivar.astype("f4"), mask=stars.mask | stars.mask[other])


def chimeras(stars: Block, other: Array) -> Block:
    """The blue half of each star and the red half of another, joined where they meet."""
    blue = np.arange(stars.flux.shape[1]) < stars.flux.shape[1] // 2
    middle = slice(blue.sum() - 50, blue.sum() + 50)
    level = np.median(stars.flux[:, middle], axis=1, keepdims=True)
    ratio = level / level[other]
    return replace(
        stars,
        flux=np.where(blue, stars.flux, stars.flux[other] * ratio).astype("f4"),
        ivar=np.where(blue, stars.ivar, stars.ivar[other] / ratio**2).astype("f4"),
        mask=np.where(blue, stars.mask, stars.mask[other]),
    )


# Lines of galaxies and quasars: wavelength in vacuum [Angstrom], strength.
_NARROW = {3728.5: 2.0, 3869.9: 0.4, 4102.9: 0.3, 4341.7: 0.5, 4862.7: 1.0, 4960.3: 0.8, 5008.2: 2.4}
_BROAD = {1549.1: 3.0, 1908.7: 1.2, 2798.8: 1.0, 4341.7: 0.4, 4862.7: 0.8}


def galaxies(stars: Block, n: int, seed: int = 0, emission: bool = True) -> Block:
    """Sums of five stars, at redshifts of 0.02 to 0.12 and with lines 100 to 300 km/s wide, some with emission."""
    rng = np.random.default_rng(seed)
    wavelength, n_pixel = stars.grid.wavelength, stars.flux.shape[1]
    flux = np.empty((n, n_pixel))
    pixel = SPEED_OF_LIGHT * stars.grid.ln_step
    for i in range(n):
        chosen = stars.flux[rng.integers(0, len(stars.flux), 5)].astype("f8")
        mixed = (chosen / np.median(chosen, axis=1, keepdims=True)).mean(axis=0)
        width = rng.uniform(100, 300) / pixel
        offset = np.arange(-15, 16)
        kernel = np.exp(-0.5 * (offset / width) ** 2)
        mixed = np.convolve(np.pad(mixed, 15, mode="edge"), kernel / kernel.sum(), mode="valid")
        z = rng.uniform(0.02, 0.12)
        # What enters at the blue end is not known: the spectrum repeats itself there.
        flux[i] = np.roll(mixed, round(np.log1p(z) / stars.grid.ln_step))
        if emission:
            strength = rng.exponential(0.5)
            for line, height in _NARROW.items():
                flux[i] += (
                    strength
                    * height
                    * np.exp(-0.5 * (np.log(wavelength / line / (1 + z)) / stars.grid.ln_step / 2.0) ** 2)
                )
    return with_noise(stars.grid, flux, rng.uniform(10, 60, n), rng)


def quasars(grid: Grid, n: int, seed: int = 0) -> Block:
    """Power laws with broad and narrow lines in emission, at redshifts of 0.1 to 2.5."""
    rng = np.random.default_rng(seed)
    flux = np.empty((n, len(grid.wavelength)))
    for i in range(n):
        z, width = rng.uniform(0.1, 2.5), rng.uniform(1500, 6000) / SPEED_OF_LIGHT
        flux[i] = (grid.wavelength / 5000) ** rng.uniform(-2, 0)
        for lines, sigma in ((_BROAD, width), (_NARROW, 300 / SPEED_OF_LIGHT)):
            for line, height in lines.items():
                flux[i] += (
                    0.5 * height * np.exp(-0.5 * (np.log(grid.wavelength / line / (1 + z)) / sigma) ** 2)
                )
    return with_noise(grid, flux, rng.uniform(10, 60, n), rng)
