"""The same stars as several surveys see them: their pixels, their lines and their noise, as files of theirs."""

from pathlib import Path

import numpy as np
import torch
from support.surveys import ARMS, write_desi, write_spec

from specxr.cubes.schema import make_cube
from specxr.emulators import default
from specxr.kernels.refraction import convert_medium
from specxr.kernels.resampling import Resampling
from specxr.readers.lamost_lrs import GRID
from specxr.readers.sdss import KM_PER_STEP
from specxr.spectra.line_spread import LineSpread
from specxr.vocabulary import SPEED_OF_LIGHT

# Resolving powers as WDISP and the resolution matrices of real files say them.
BOSS_LINES = LineSpread.tabulated([3600, 4000, 5000, 6000, 9000], [1560, 1650, 2000, 2270, 2200])
DESI_LINES = LineSpread.tabulated([3600, 4560, 5721, 5800], [2300, 2875, 3577, 3600])
_LOW, _HIGH = 4080.0, 5840.0  # vacuum; what a fit between 4200 and 5700 Angstrom needs
_EDGES = np.exp(np.arange(np.log(_LOW), np.log(_HIGH), 1 / 60000))
_MARGIN = 30.0  # Angstrom at either end that the lines and velocities need


def stars(n, seed=0):
    """Labels of stars of the main sequence and of giants, by name."""
    rng = np.random.default_rng(seed)
    return {
        "teff": rng.uniform(4700, 7200, n),
        "logg": rng.uniform(2.6, 4.6, n),
        "feh": rng.uniform(-0.9, 0.2, n),
        "rv": rng.uniform(-200, 200, n),
    }


def ideal(labels):
    """Spectra of the embedded emulator at these labels, without an instrument, of a smooth shape."""
    emulator = default()
    flux = []
    for teff, logg, feh, rv in zip(*(labels[name] for name in ("teff", "logg", "feh", "rv")), strict=True):
        edges = convert_medium(_EDGES / (1 + rv / SPEED_OF_LIGHT), "vacuum", emulator.medium)
        on = emulator.on(edges, emulator.medium, dtype=torch.float64, device=torch.device("cpu"))
        flux.append((on.terms(torch.tensor([[teff, logg, feh]]).double()) @ on.coefficients)[0].numpy())
    return 100 * np.array(flux) * np.exp(0.3 * np.sin(np.linspace(0, 3, len(_EDGES) - 1)))


def seen(flux, edges, lines):
    """Spectra with the lines of an instrument on its pixels, 0 where they are not known."""
    centres = 0.5 * (edges[1:] + edges[:-1])
    out = np.zeros((len(flux), centres.size))
    inside = np.flatnonzero((centres > _LOW + _MARGIN) & (centres < _HIGH - _MARGIN))
    pixels = slice(inside[0], inside[-1] + 1)
    sigma = lines.sigma(centres[pixels]) / SPEED_OF_LIGHT * centres[pixels]
    onto = Resampling(_EDGES, edges[pixels.start : pixels.stop + 1], sigma)
    out[:, pixels] = onto.flux(torch.from_numpy(flux)).numpy()
    return out


def _exposed(flux, snr, rng):
    """Flux with noise, if there is a generator, and its inverse variance."""
    level = np.array([np.median(row[row > 0]) for row in flux])[:, None]
    ivar = np.where(flux > 0, (snr / level) ** 2, 0.0)
    if rng is not None:
        flux = flux + np.divide(
            rng.normal(size=flux.shape), np.sqrt(ivar), out=np.zeros(flux.shape), where=ivar > 0
        )
    return flux, ivar


def lamost(flux, snr, rng=None):
    """A cube."""
    spectra, ivar = _exposed(seen(flux, GRID.edges, GRID.line_spread), snr, rng)
    return make_cube(spectra, ivar, GRID)


def boss(folder: Path, flux, snr, rng=None):
    """Spec-lite files, one for each star."""
    first, n_pixel = 35600, 4500
    centres = 10 ** ((first + np.arange(n_pixel)) * 1e-4)
    edges = 10 ** ((first - 0.5 + np.arange(n_pixel + 1)) * 1e-4)
    spectra, ivar = _exposed(seen(flux, edges, BOSS_LINES), snr, rng)
    wdisp = BOSS_LINES.sigma(centres) / KM_PER_STEP
    return [
        write_spec(folder / f"{star}.fits", flux=one, ivar=noise, wdisp=wdisp, FIBERID=star + 1)
        for star, (one, noise) in enumerate(zip(spectra, ivar, strict=True))
    ]


def desi(folder: Path, flux, snr, rng=None):
    """A coadd with the arm B."""
    pixel = np.arange(*ARMS["B"])
    wavelength, edges = 3600 + 0.8 * pixel, 3600 + 0.8 * np.append(pixel - 0.5, pixel[-1] + 0.5)
    spectra, ivar = _exposed(seen(flux, edges, DESI_LINES), snr, rng)
    # The rows of a resolution matrix are the profile of a line with the pixels in it.
    width = np.hypot(DESI_LINES.sigma(wavelength) / SPEED_OF_LIGHT * wavelength / 0.8, np.sqrt(1 / 12))
    profile = np.exp(-0.5 * (np.arange(5, -6, -1)[:, None] / width) ** 2)
    matrix = np.broadcast_to(profile / profile.sum(axis=0), (len(flux), *profile.shape))
    return write_desi(
        folder / "coadd.fits",
        100 + np.arange(len(flux)),
        lambda star, wavelength: spectra[star],
        arms="B",
        ivar=ivar,
        resolution=matrix,
    )
