"""Spectra of M dwarfs between real templates: interpolated in temperature, metallicity and gravity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from specxr.kernels.pseudo_continuum import pseudo_continuum
from specxr.kernels.refraction import air_to_vacuum
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.spectra.normalisation import Normalisation

# Effective temperatures of the types of dwarfs [K], rounded from Pecaut & Mamajek (2013) and its later editions.
TEFF_OF_TYPE: Mapping[str, float] = {
    "K5": 4450.0, "K7": 4050.0, "M0": 3850.0, "M1": 3660.0, "M2": 3560.0, "M3": 3430.0, "M4": 3210.0,
    "M5": 3060.0, "M6": 2810.0, "M7": 2680.0,
}  # fmt: skip

# Giants of the second library and their types, with which dwarfs are compared for the effect of gravity.
_GIANTS = {"HD89758": 3850.0, "HD146051": 3755.0, "HD102212": 3660.0, "HD112300": 3430.0}
_GRAVITY_STEP = 3.4  # dex, of dwarfs (4.8) above these giants (1.4)

_SPLIT = Normalisation(100.0)  # what is a line or a band, and what is the continuum
_ANCHOR = 7500.0  # Angstrom, where the continuum is 1
_RESOLVING_POWER = 1800.0
_METALLICITIES = (-1.0, 0.5)  # of the templates that are used; a fit beyond would follow single stars
_MOST_STACKED = 30  # a template of more stars counts as much: its error is no longer noise


@dataclass(frozen=True, eq=False)
class DwarfTemplates:
    """Flux of M dwarfs on the pixels of the templates, a smooth function of temperature, metallicity and gravity.

    Lines and the logarithm of the continuum are each a polynomial in teff and [Fe/H], fitted to all templates, pixel by
    pixel. Gravity adds what differs between giants and dwarfs of one type, per dex.

    Attributes
    ----------
    grid : Grid
        Pixels of the templates, vacuum.
    lines, continuum : ndarray, shape (term, wavelength)
        Coefficients of the flux over its continuum, and of the logarithm of the continuum.
    gravity : ndarray, shape (wavelength,)
        Change of the flux over its continuum for one dex of logg.
    """

    grid: Grid
    lines: NDArray[np.float64]
    continuum: NDArray[np.float64]
    gravity: NDArray[np.float64]

    @classmethod
    def read(cls, dwarfs: str | Path, giants: str | Path) -> DwarfTemplates:
        """Fit the polynomials to composites of dwarfs, and compare dwarfs with giants.

        Parameters
        ----------
        dwarfs : str or Path
            PyHammer's composites (Kesseli et al. 2017) as .npz: ``name`` as ``M2_-0.5_Dwarf``, ``loglam``, ``flux`` and
            ``n_stacked``.
        giants : str or Path
            The library STELIB (Le Borgne et al. 2003) as .npz: ``name``, ``wave_air`` and ``flux``.
        """
        with np.load(dwarfs, allow_pickle=False) as file:
            kinds = [_parse(str(name)) for name in file["name"]]
            used = [i for i, kind in enumerate(kinds) if kind is not None]
            teff, feh = np.array([kinds[i] for i in used]).T
            flux, stacked = file["flux"][used].astype("f8"), file["n_stacked"][used]
            wavelength = 10.0 ** file["loglam"]
        grid = Grid(wavelength, "vacuum", "log10", 1e-4, LineSpread.constant(_RESOLVING_POWER))
        good = np.isfinite(flux) & (flux > 0)
        smooth = _continuum(flux, good, wavelength)
        weight = np.sqrt(np.clip(stacked, 1, _MOST_STACKED))[:, None] * good
        terms = _terms(teff, feh)
        lines = _fit(terms, np.where(good, flux / smooth, 0.0), weight)
        log_smooth = np.log(smooth)
        log_smooth -= log_smooth[:, [np.searchsorted(wavelength, _ANCHOR)]]
        continuum = _fit(terms, log_smooth, np.broadcast_to(weight.max(axis=1)[:, None], good.shape))
        gravity = _gravity(Path(giants), wavelength, lines)
        return cls(grid, lines, continuum, gravity)

    def flux(
        self, teff: ArrayLike, feh: ArrayLike, logg: ArrayLike, main_sequence: ArrayLike
    ) -> NDArray[np.float64]:
        """Flux of stars, shape (star, wavelength).

        Parameters
        ----------
        teff, feh, logg : array_like, shape (star,)
            Labels [K, dex].
        main_sequence : array_like, shape (star,)
            The logg that a template of this temperature has.
        """
        terms = _terms(np.asarray(teff, "f8"), np.asarray(feh, "f8"))
        excess = (np.asarray(logg, "f8") - np.asarray(main_sequence, "f8"))[:, None]
        over = np.maximum(terms @ self.lines + excess * self.gravity, 0.01)
        return np.asarray(over * np.exp(terms @ self.continuum))


def _parse(name: str) -> tuple[float, float] | None:
    """Temperature and metallicity of a template, None for those that are not used."""
    kind, _, rest = name.partition("_")
    metallicity, _, luminosity = rest.partition("_")
    if kind not in TEFF_OF_TYPE or luminosity != "Dwarf":
        return None
    feh = float(metallicity)
    return (TEFF_OF_TYPE[kind], feh) if _METALLICITIES[0] <= feh <= _METALLICITIES[1] else None


def _terms(teff: NDArray[np.float64], feh: NDArray[np.float64]) -> NDArray[np.float64]:
    t = (teff - 3500.0) / 600.0
    return np.stack([np.ones_like(t), t, t**2, t**3, feh, feh * t, feh**2], axis=1)


def _fit(
    terms: NDArray[np.float64], values: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted least squares of every pixel, shape (term, wavelength)."""
    weighted = terms[:, :, None] * weight[:, None]
    normal = np.einsum("stp,sup->ptu", weighted, weighted)
    right = np.einsum("stp,sp->pt", weighted, values * weight)
    return np.asarray(np.linalg.solve(normal, right[..., None])[..., 0].T)


def _continuum(
    flux: NDArray[np.float64], good: NDArray[np.bool_], wavelength: NDArray[np.float64]
) -> NDArray[np.float64]:
    filled = torch.from_numpy(np.where(good, flux, 1.0))
    return pseudo_continuum(filled, torch.from_numpy(good), wavelength, _SPLIT).clamp(min=1e-6).numpy()


def _gravity(path: Path, wavelength: NDArray[np.float64], lines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of dwarf minus giant over several types, 0 where the giants were not observed."""
    changes = []
    with np.load(path, allow_pickle=False) as file:
        own = air_to_vacuum(file["wave_air"].astype("f8"))
        for name, teff in _GIANTS.items():
            flux = file["flux"][list(file["name"]).index(name)].astype("f8")
            known = np.isfinite(flux) & (flux > 0)
            here = np.interp(wavelength, own[known], flux[known])[None]
            good = ((wavelength > own[known][0]) & (wavelength < own[known][-1]))[None]
            dwarf = (_terms(np.array([teff]), np.zeros(1)) @ lines)[0]
            giant = (here / _continuum(here, good, wavelength))[0]
            changes.append(np.where(good[0], (dwarf - giant) / _GRAVITY_STEP, 0.0))
    return np.asarray(np.median(changes, axis=0))
