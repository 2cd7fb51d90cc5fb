"""The MILES library as the embedded emulator needs it: at rest, normalised, with all labels on one scale."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

import specxr
from specxr.estimators.base import Block
from specxr.kernels.rebin import rebin
from specxr.kernels.refraction import air_to_vacuum
from specxr.spectra.grid import Grid
from specxr.vocabulary import MASK_DTYPE, SPEED_OF_LIGHT, MaskBit, Result

LABELS = ("teff", "logg", "feh")
WINDOW = (4200.0, 5699.0)  # Angstrom, air; the ELODIE emulator ends one pixel before LASP's own window does
LAMOST_STEP = 1e-4
STEP = LAMOST_STEP / 2  # pixels of the emulator in log10; the edges of LAMOST's pixels are among their edges

# A faster or less certain velocity is not used: the lines of such a star are not those of ELODIE's emulator.
_FASTEST, _VELOCITY_ERROR = 60.0, 10.0  # km/s
# Marks in the spectral types of chemically peculiar, metallic-lined and emission-line stars. Their lines do not
# correspond to their labels.
_PECULIAR, _PECULIAR_ABOVE = ("p", "Am", "mn", "e"), 6500.0

# The range [K] in which labels of LASP with ELODIE replace those of MILES, and the largest differences of the two.
_TRANSFERRED = (3900.0, 9500.0)
_FARTHEST_TEFF = 600.0
_HOT, _FARTHEST_HOT = 7500.0, 0.7  # above this Teff [K], logg and [Fe/H] must agree as well [dex]


@dataclass(frozen=True)
class Library:
    """Stars of MILES.

    Attributes
    ----------
    flux : ndarray, shape (star, pixel)
        Flux at rest, divided by its pseudo-continuum, with the line width of MILES.
    edges : ndarray, shape (pixel + 1,)
        Edges of the pixels in vacuum [Angstrom].
    observed : Block
        The same stars without these changes, on a grid that LASP can fit.
    labels : ndarray, shape (star, 3)
        teff [K], logg, feh on the scale of the emulator; it is made with them.
    independent : ndarray, shape (star, 3)
        MILES' own labels on that scale, after the zero point is added; NaN where MILES has none.
    elodie : ndarray, shape (star, 3)
        Labels of LASP with ELODIE; NaN where the fit has not converged.
    weight : ndarray, shape (star,)
        Weight in the fit; 0 for stars that are left out.
    """

    flux: NDArray[np.float64]
    edges: NDArray[np.float64]
    observed: Block
    labels: NDArray[np.float64]
    independent: NDArray[np.float64]
    elodie: NDArray[np.float64]
    weight: NDArray[np.float64]

    def observed_of(self, stars: NDArray[np.int64]) -> Block:
        """Some of the stars, for LASP."""
        block = self.observed
        return Block(block.grid, block.flux[stars], block.ivar[stars], block.mask[stars])


def read_library(miles: Path, elodie: Path, every: int = 1) -> Library:
    """Read MILES, find velocities and the scale of the labels with LASP and ELODIE, and normalise the spectra.

    Parameters
    ----------
    miles, elodie : Path
    every : int, optional
        Only each star of this number is read.
    """
    for path in (miles, elodie):
        if not path.is_file():
            raise SystemExit(
                f"there is no file {path}; the MILES library and the ELODIE emulator are required to make the "
                "emulator. Give --miles and --elodie, or set SPECXR_SHARED."
            )
    with np.load(miles, allow_pickle=True) as file:
        raw = {
            name: file[name] if name == "wave_air" else file[name][::every]
            for name in ("wave_air", "flux", "teff_logg_feh", "sptype")
        }
    known = np.isfinite(raw["teff_logg_feh"][:, :2]).all(axis=1) & (raw["flux"] > 0).all(axis=1)
    flux, own = raw["flux"][known].astype("f8"), raw["teff_logg_feh"][known]
    centre = raw["wave_air"]
    half = 0.5 * (centre[1] - centre[0])
    air = np.append(centre - half, centre[-1] + half)
    observed = as_observed(flux, air)
    fitted = fit_labels(specxr.LASP(elodie, window=WINDOW), observed)
    rest, edges = at_rest(flux, air_to_vacuum(air), velocities(fitted))
    labels, independent = on_one_scale(own, fitted)
    peculiar = [any(mark in kind.replace("comp", "") for mark in _PECULIAR) for kind in raw["sptype"][known]]
    weight = np.where(np.isfinite(own[:, 2]), 1.0, 0.5)
    weight[np.array(peculiar) & (own[:, 0] > _PECULIAR_ABOVE)] = 0.0
    print(f"{len(own)} stars of MILES; {np.sum(weight == 0)} peculiar ones among them are left out")
    elodie_labels = fitted[list(LABELS)].to_numpy()
    return Library(rest / continuum(rest, edges), edges, observed, labels, independent, elodie_labels, weight)


def as_observed(flux: NDArray[np.float64], edges: NDArray[np.float64]) -> Block:
    """Spectra on a grid of log10(wavelength) in air with LAMOST's step."""
    ends = np.log10(edges[[0, -1]]) / LAMOST_STEP
    index = np.arange(np.ceil(ends[0]), np.floor(ends[1]) + 1)
    onto = 10.0 ** (index * LAMOST_STEP)
    rebinned = rebin(torch.from_numpy(flux), edges, onto).numpy()
    grid = Grid(10.0 ** ((index[:-1] + 0.5) * LAMOST_STEP), "air", "log10", LAMOST_STEP, None)
    mask = np.where(rebinned > 0, 0, int(MaskBit.MISSING)).astype(MASK_DTYPE)
    return Block(grid, rebinned.astype("f4"), np.ones_like(rebinned, dtype="f4"), mask)


def fit_labels(lasp: specxr.LASP, block: Block) -> pd.DataFrame:
    """Fit a block with LASP: one row for each star, with NaN as labels where the fit has not converged."""
    out = lasp.estimate(block)
    table = pd.DataFrame({name: values for name, values in out.items() if values.ndim == 1})
    table.loc[table["result"] != int(Result.CONVERGED), list(LABELS)] = np.nan
    return table


def velocities(fitted: pd.DataFrame) -> NDArray[np.float64]:
    """Radial velocities [km/s] that are removed from the spectra; 0 where the fit gives no good one."""
    good = (
        np.isfinite(fitted["teff"]) & (fitted["rv"].abs() < _FASTEST) & (fitted["rv_err"] < _VELOCITY_ERROR)
    )
    return np.where(good, fitted["rv"], 0.0)


def at_rest(
    flux: NDArray[np.float64], edges: NDArray[np.float64], velocity: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Spectra at rest on the emulator's pixels, by a spline through the cumulative flux."""
    reach = 1.0 + np.array([1.0, -1.0]) * _FASTEST / SPEED_OF_LIGHT
    ends = np.log10(edges[[0, -1]] * reach) / STEP
    onto = 10.0 ** (np.arange(np.ceil(ends[0]), np.floor(ends[1]) + 1) * STEP)
    cumulative = np.cumsum(np.pad(flux * np.diff(edges), ((0, 0), (1, 0))), axis=1)
    rest = np.empty((len(flux), onto.size - 1))
    for star, speed in enumerate(velocity):
        there = onto * (1.0 + speed / SPEED_OF_LIGHT)
        rest[star] = np.diff(CubicSpline(edges, cumulative[star])(there)) / np.diff(there)
    return rest, onto


def continuum(
    flux: NDArray[np.float64], edges: NDArray[np.float64], window: float = 40.0, scale: float = 300.0
) -> NDArray[np.float64]:
    """Pseudo-continua: a smoothing spline through high quantiles of the flux in windows.

    Quantiles that lie below the spline have little weight in the next round.

    Parameters
    ----------
    flux : ndarray, shape (star, pixel)
    edges : ndarray, shape (pixel + 1,)
    window : float, optional
        Width of the windows [Angstrom].
    scale : float, optional
        Length of the spline [Angstrom].
    """
    centre = np.sqrt(edges[1:] * edges[:-1])
    n = round((edges[-1] - edges[0]) / window)
    borders = np.searchsorted(centre, np.linspace(edges[0], edges[-1], n + 1))
    at = np.array([centre[a:b].mean() for a, b in zip(borders[:-1], borders[1:], strict=True)])
    bend = np.diff(np.eye(n), 2, axis=0) / window**2
    penalty = scale**4 * bend.T @ bend
    found = np.empty_like(flux)
    for star, spectrum in enumerate(flux):
        high = [np.quantile(spectrum[a:b], 0.92) for a, b in zip(borders[:-1], borders[1:], strict=True)]
        level, weight = np.log(np.maximum(high, 1e-3 * np.median(spectrum))), np.ones(n)
        for _ in range(8):
            smooth = np.linalg.solve(np.diag(weight) + penalty, weight * level)
            below = level - smooth
            weight = np.where(below < -max(1.4826 * np.median(np.abs(below)), 0.003), 0.03, 1.0)
        found[star] = np.exp(np.interp(centre, at, smooth))
    return found


def on_one_scale(
    own: NDArray[np.float64], fitted: pd.DataFrame
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Labels on the scale of LASP with ELODIE.

    The labels are those of the fit where ELODIE has such stars and the fit agrees with MILES. Elsewhere they are MILES'
    own labels with the zero point added.

    Returns
    -------
    labels, independent : ndarray, shape (star, 3)
    """
    elodie = fitted[list(LABELS)].to_numpy()
    independent = own + zero_point(own, elodie)
    assumed = np.where(np.isfinite(independent), independent, 0.0)  # an unknown [Fe/H] is taken as solar
    away = np.abs(elodie - independent)
    near = (own[:, 0] < _HOT) | (away[:, 1:] < _FARTHEST_HOT).all(axis=1)
    low, high = _TRANSFERRED
    taken = (own[:, 0] > low) & (own[:, 0] < high) & (away[:, 0] < _FARTHEST_TEFF) & near
    taken &= np.isfinite(away).all(axis=1)
    print(f"labels: {taken.sum()} of LASP with ELODIE, {np.sum(~taken)} of MILES with the zero point")
    return np.where(taken[:, None], elodie, assumed), independent


def zero_point(own: NDArray[np.float64], elodie: NDArray[np.float64]) -> NDArray[np.float64]:
    """ELODIE's scale minus MILES' own, shape (star, 3): a cubic of log Teff that fades out where ELODIE is no guide."""
    t = (np.log10(np.clip(own[:, 0], 3700.0, 7600.0)) - 3.72) / 0.1
    difference = elodie - own
    known = np.isfinite(difference).all(axis=1) & (np.abs(difference[:, 0]) < 500.0)
    known &= (own[:, 0] > 3700.0) & (own[:, 0] < 7600.0)
    terms = np.vander(t, 4, increasing=True)
    offset = np.empty_like(own)
    for label in range(3):
        y, weight = difference[known, label], np.ones(known.sum())
        for _ in range(30):  # Cauchy weights, because labels of single stars may be far off
            root = np.sqrt(weight)
            row = np.linalg.lstsq(terms[known] * root[:, None], y * root, rcond=None)[0]
            away = y - terms[known] @ row
            weight = 1.0 / (1.0 + (away / (2.0 * 1.4826 * np.median(np.abs(away)))) ** 2)
        offset[:, label] = terms @ row
        shown = " ".join(f"{c:+.3f}" for c in row)
        scatter = 1.4826 * np.median(np.abs(away))
        print(
            f"zero point of {LABELS[label]:4s}: ({shown}) . (1, t, t^2, t^3) with t = 10 (log10 Teff - 3.72); "
            f"scatter {scatter:.3f}, {known.sum()} stars"
        )
    fade = ramp(own[:, 0], 8500.0, 7200.0) * ramp(own[:, 0], 3500.0, 3900.0)
    return offset * fade[:, None]


def ramp(teff: NDArray[np.float64], nothing: float, everything: float) -> NDArray[np.float64]:
    """0 at one temperature [K], 1 at the other, linear in log Teff between them."""
    return np.clip(np.log(teff / nothing) / np.log(everything / nothing), 0.0, 1.0)
