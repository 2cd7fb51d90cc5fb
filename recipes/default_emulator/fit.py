"""Polynomials fitted to a library of spectra: regimes of temperature, ridge, anchors, and narrower lines."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from scipy.sparse import csr_matrix, diags_array

from specxr.emulators import PolynomialEmulator

_FWHM = np.sqrt(8.0 * np.log(2.0))
# A star is left out if its residual is larger than that of stars of about its temperature by this factor.
_CLIP, _ROUNDS = 2.5, 4
_NORMALISATION_DEGREE, _NORMALISATION_ROUNDS = 20, 2

# Spectra change by about the same amount over each of these steps of log10 Teff, logg and [Fe/H]. In these units an
# anchor is at least _FAR from every star. It is the mean of _NEIGHBOURS stars.
_STEPS = np.array([0.03, 0.7, 0.5])
_FAR, _ANCHOR_WEIGHT, _NEIGHBOURS = 2.0, 0.01, 6
_ANCHORS = (np.arange(3.4625, 4.478, 0.04), (0.0, 1.25, 2.5, 3.75, 5.0), (-2.5, -1.5, -0.6, 0.1, 0.6))


@dataclass(frozen=True)
class Regime:
    """A polynomial of scaled (log10 teff, logg, feh), which is fitted to the stars within the range `teff` [K]."""

    teff: tuple[float, float]
    fiducial: tuple[float, float, float]
    scale: tuple[float, float, float]
    ridge: float


@dataclass(frozen=True)
class Form:
    """Everything that is chosen before the fit.

    Parameters
    ----------
    regimes : tuple of Regime
    knots : tuple of (float, float)
        Temperatures [K] between which a regime gives way to the next.
    powers : ndarray of int, shape (monomial, 3)
    bounds : dict
    """

    regimes: tuple[Regime, ...]
    knots: tuple[tuple[float, float], ...]
    powers: NDArray[np.int64]
    bounds: dict[str, tuple[float, float]]

    def terms(self, labels: NDArray[np.float64], regime: Regime) -> NDArray[np.float64]:
        """Monomials of one regime, shape (star, monomial)."""
        y = np.column_stack([np.log10(labels[:, 0]), labels[:, 1:]])
        x = (y - regime.fiducial) / regime.scale
        return np.prod(x[:, None, :] ** self.powers, axis=2)

    def blended(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Monomials of all regimes times their weights in the blend, shape (star, regime x monomial)."""
        weights = [np.ones(len(labels))]
        for low, high in self.knots:
            rise = np.clip(np.log(labels[:, 0] / low) / np.log(high / low), 0.0, 1.0)
            weights[-1:] = [weights[-1] * (1.0 - rise), weights[-1] * rise]
        pieces = zip(weights, self.regimes, strict=True)
        return np.concatenate([w[:, None] * self.terms(labels, regime) for w, regime in pieces], axis=1)


@dataclass(frozen=True)
class Fitted:
    """Coefficients, shape (regime x monomial, pixel), and the weight of each star in the fit."""

    coefficients: NDArray[np.float64]
    weight: NDArray[np.float64]


def fit(
    form: Form, labels: NDArray[np.float64], flux: NDArray[np.float64], weight: NDArray[np.float64]
) -> Fitted:
    """Fit all regimes together, without outlying stars, and with anchors where there are no stars.

    Parameters
    ----------
    form : Form
    labels : ndarray, shape (star, 3)
    flux : ndarray, shape (star, pixel)
    weight : ndarray, shape (star,)
    """
    for _ in range(_NORMALISATION_ROUNDS):
        flux = normalise(form, labels, flux, robust(form, labels, flux, weight).coefficients)
    found = robust(form, labels, flux, weight)
    where, what = anchors(labels, flux, found.weight)
    every = np.concatenate([found.weight, np.full(len(where), _ANCHOR_WEIGHT)])
    coefficients = solve(form, np.vstack([labels, where]), np.vstack([flux, what]), every)
    return Fitted(coefficients, found.weight)


def robust(
    form: Form, labels: NDArray[np.float64], flux: NDArray[np.float64], weight: NDArray[np.float64]
) -> Fitted:
    """Fit without the stars whose spectra do not correspond to their labels."""
    kept = weight
    terms, order = form.blended(labels), np.argsort(labels[:, 0], kind="stable")
    for _ in range(_ROUNDS):
        coefficients = solve(form, labels, flux, kept)
        rms = np.sqrt(np.mean((flux - terms @ coefficients) ** 2, axis=1))
        usual = np.empty_like(rms)
        usual[order] = pd.Series(rms[order]).rolling(41, center=True, min_periods=10).median()
        last, kept = kept, np.where(rms < _CLIP * usual, weight, 0.0)
    return Fitted(coefficients, last)


def solve(
    form: Form, labels: NDArray[np.float64], flux: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted ridge regression of the blend, and of each regime alone over its own stars.

    The second part keeps a regime close to the stars within its blends, where the data show only its sum with the next.
    """
    terms = form.blended(labels)
    matrix, right = (terms * weight[:, None]).T @ terms, (terms * weight[:, None]).T @ flux
    degree = form.powers.sum(axis=1)
    penalty = np.where(degree == 0, 1e-6, degree.astype("f8") ** 2)
    for i, regime in enumerate(form.regimes):
        own = weight * ((labels[:, 0] > regime.teff[0]) & (labels[:, 0] < regime.teff[1]))
        here = slice(i * len(degree), (i + 1) * len(degree))
        alone = form.terms(labels, regime)
        matrix[here, here] += (alone * own[:, None]).T @ alone + np.diag(regime.ridge * own.sum() * penalty)
        right[here] += (alone * own[:, None]).T @ flux
    return np.linalg.solve(matrix, right)


def normalise(
    form: Form,
    labels: NDArray[np.float64],
    flux: NDArray[np.float64],
    coefficients: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Divide each star by the polynomial of wavelength that brings it closest to its model.

    After this, all pseudo-continua are those of the mean star with the same labels.
    """
    basis = chebyshev.chebvander(np.linspace(-1.0, 1.0, flux.shape[1]), _NORMALISATION_DEGREE)
    model = form.blended(labels) @ coefficients
    shape = [np.linalg.lstsq(basis * m[:, None], f, rcond=None)[0] for m, f in zip(model, flux, strict=True)]
    return flux / (np.stack(shape) @ basis.T)


def anchors(
    labels: NDArray[np.float64], flux: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Labels that are far from every star, each with the mean spectrum of the nearest stars.

    They have little weight, and they keep the polynomials finite where the library has no stars.
    """
    log_teff, logg, feh = (a.ravel() for a in np.meshgrid(*_ANCHORS, indexing="ij"))
    where = np.column_stack([log_teff, logg, feh])
    stars = np.column_stack([np.log10(labels[:, 0]), labels[:, 1:]])[weight > 0]
    distance = np.sqrt((((where[:, None] - stars) / _STEPS) ** 2).sum(axis=2))
    far = distance.min(axis=1) > _FAR
    nearest = np.argsort(distance[far], axis=1)[:, :_NEIGHBOURS]
    share = np.take_along_axis(distance[far], nearest, axis=1) ** -4.0
    share /= share.sum(axis=1, keepdims=True)
    mean = np.einsum("as,asp->ap", share, flux[weight > 0][nearest])
    return np.column_stack([10.0 ** where[far, 0], where[far, 1:]]), mean


def sharpen(
    rows: NDArray[np.float64],
    edges: NDArray[np.float64],
    fwhm: float,
    resolving_power: float,
    smoothness: float = 0.1,
) -> NDArray[np.float64]:
    """Bring spectra of constant FWHM to a constant, higher resolving power by regularised deconvolution.

    The result is the s that minimises |K s - rows|^2 + smoothness^2 |s''|^2, where K broadens it to the constant FWHM.

    Parameters
    ----------
    rows : ndarray, shape (row, pixel)
    edges : ndarray, shape (pixel + 1,)
        Edges of the pixels in equal steps of the logarithm [Angstrom].
    fwhm : float
        Line width of the rows [Angstrom].
    resolving_power : float
        Resolving power of the result.
    smoothness : float, optional
    """
    step, centre = np.log(edges[1] / edges[0]), np.sqrt(edges[1:] * edges[:-1])
    n = len(centre)
    width = np.sqrt(np.maximum((fwhm / centre) ** 2 - resolving_power**-2.0, (0.2 * _FWHM * step) ** 2))
    width /= _FWHM * step
    reach = int(np.ceil(6.0 * width.max()))
    offset = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offset / width[:, None]) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    column = np.clip(np.arange(n)[:, None] + offset, 0, n - 1)
    row = np.repeat(np.arange(n), len(offset))
    broaden = csr_matrix((kernel.ravel(), (row, column.ravel())), shape=(n, n))
    ones = np.ones(n - 2)
    bend = diags_array([ones, -2.0 * ones, ones], offsets=[0, 1, 2], shape=(n - 2, n))
    matrix = (broaden.T @ broaden + smoothness**2 * (bend.T @ bend)).tocoo()
    band = 2 * reach + 1
    upper = np.zeros((band + 1, n))
    above = (matrix.col >= matrix.row) & (matrix.col - matrix.row <= band)
    upper[band + matrix.row[above] - matrix.col[above], matrix.col[above]] = matrix.data[above]
    return solveh_banded(upper, broaden.T @ rows.T).T


def emulator(
    form: Form,
    rows: NDArray[np.float64],
    edges: NDArray[np.float64],
    resolving_power: float,
    **origin: object,
) -> PolynomialEmulator:
    """Make an emulator from coefficients on pixels in vacuum."""
    made = PolynomialEmulator(
        coefficients=rows.reshape(len(form.regimes), len(form.powers), -1).astype(np.float32),
        edges=edges,
        medium="vacuum",
        powers=form.powers,
        fiducial=np.array([regime.fiducial for regime in form.regimes]),
        scale=np.array([regime.scale for regime in form.regimes]),
        knots=np.array(form.knots),
        bounds=form.bounds,
        log_teff=True,
        resolving_power=resolving_power,
    )
    return replace(made, **origin)  # type: ignore[arg-type]


def cubic(*extra: tuple[int, int, int]) -> NDArray[np.int64]:
    """All monomials of three labels up to the third degree, and the extra ones."""
    every = [(a, b, c) for a in range(4) for b in range(4) for c in range(4) if a + b + c <= 3]
    return np.array(sorted([*every, *extra], key=lambda powers: (sum(powers), powers)))
