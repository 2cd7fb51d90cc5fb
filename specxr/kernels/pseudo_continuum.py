"""Spectra over their pseudo-continuum: one penalised spline for training sets and for observations."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from specxr.spectra.normalisation import Normalisation, within

_KNOTS_PER_SCALE = 2  # the spline is then within 1e-4 of the one with a knot at every pixel
_MAD_TO_SIGMA = 1.4826
_POWERS_OF_B_SPLINE = np.array(  # rows: the four cubic B-splines of an interval; columns: 1, u, u^2, u^3
    [[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]]
) / 6.0  # fmt: skip
_BENDING_AT_ENDS = np.array([[1.0, 0.0], [-2.0, 1.0], [1.0, -2.0], [0.0, 1.0]])  # their second derivatives
_PAIRS = [(i, j) for i in range(4) for j in range(i, 4)]


def divide_by_continuum(
    flux: Tensor, ivar: Tensor, good: Tensor, wavelength: ArrayLike, recipe: Normalisation
) -> tuple[Tensor, Tensor]:
    """Divide spectra by their pseudo-continuum.

    Parameters
    ----------
    flux, ivar : Tensor, shape (star, pixel)
        Any units; flux that is not finite is not used.
    good : Tensor of bool, shape (star, pixel)
        Pixels that may be used.
    wavelength : array_like, shape (pixel,)
        Pixel centres [Angstrom], increasing.
    recipe : Normalisation

    Returns
    -------
    flux, ivar : Tensor, shape (star, pixel)
        Without units, as `over_continuum` gives them. Excluded pixels are like any other: a star that moves brings
        them to where they count.
    """
    good = good & torch.isfinite(flux)
    return over_continuum(flux, ivar, good, pseudo_continuum(flux, good, wavelength, recipe))


def over_continuum(flux: Tensor, ivar: Tensor, good: Tensor, continuum: Tensor) -> tuple[Tensor, Tensor]:
    """Flux over a continuum and its inverse variance, each of shape (star, pixel).

    Where a pixel is not good or has no positive continuum, the flux is 1 and the inverse variance 0.
    """
    good = good & (continuum > 0)
    ratio = torch.where(good, flux / continuum, 1.0)
    return ratio.to(flux.dtype), torch.where(good, ivar * continuum**2, 0.0).to(ivar.dtype)


def pseudo_continuum(flux: Tensor, good: Tensor, wavelength: ArrayLike, recipe: Normalisation) -> Tensor:
    """Fit the pseudo-continuum of each spectrum.

    Parameters
    ----------
    flux : Tensor, shape (star, pixel)
    good : Tensor of bool, shape (star, pixel)
        Pixels that may be used, with finite flux; those that the recipe excludes are not used.
    wavelength : array_like, shape (pixel,)
        Pixel centres [Angstrom], increasing.
    recipe : Normalisation

    Returns
    -------
    Tensor of float64, shape (star, pixel)
        NaN for stars with fewer than four good pixels.
    """
    wavelength = np.asarray(wavelength, dtype=np.float64)
    good = good & ~torch.as_tensor(within(wavelength, recipe.excluded), device=flux.device)
    spline = _spline(wavelength.tobytes(), recipe.scale, flux.device)
    flux = torch.where(good, flux.to(torch.float64), 0.0)
    # In units of their mean, so that no flux scale over- or underflows.
    unit = flux.abs().sum(-1, keepdim=True) / good.sum(-1, keepdim=True).clamp(min=1)
    flux = flux / torch.where(unit > 0, unit, 1.0)
    fitted = spline.fit(flux, good)
    for _ in range(recipe.rounds - 1):
        fitted = spline.fit(flux, good & ~_stands_out(flux / fitted, good, wavelength, recipe))
    enough = good.sum(-1, keepdim=True) >= 4
    return torch.where(enough, fitted * unit, torch.nan)


def _stands_out(
    ratio: Tensor, good: Tensor, wavelength: NDArray[np.float64], recipe: Normalisation
) -> Tensor:
    """Pixels farther than ``clip`` standard deviations from the median of their window, shape (star, pixel)."""
    span = wavelength[-1] - wavelength[0]
    n_window = max(1, round(span / recipe.window))
    window = np.minimum(((wavelength - wavelength[0]) / span * n_window).astype(np.int64), n_window - 1)
    groups = _Groups.of(window, n_window, ratio.device)
    ratio = groups.gather(torch.where(good, ratio, torch.nan), torch.nan)
    departure = (ratio - ratio.nanmedian(-1, keepdim=True).values).abs()
    sigma = _MAD_TO_SIGMA * departure.nanmedian(-1, keepdim=True).values
    return groups.scatter(departure > recipe.clip * sigma)


@dataclass(frozen=True)
class _Groups:
    """Neighbouring pixels in groups of any number, the smaller ones padded.

    Attributes
    ----------
    index : Tensor of int, shape (group, member)
        Pixel of each member; that of a padding is any.
    real : Tensor of bool, shape (group, member)
    """

    index: Tensor
    real: Tensor

    @classmethod
    def of(cls, group: NDArray[np.int64], n_group: int, device: torch.device) -> _Groups:
        count = np.bincount(group, minlength=n_group)
        first = np.append(0, np.cumsum(count)[:-1])
        member = np.arange(count.max())
        index = np.minimum(first[:, None] + member, len(group) - 1)
        real = member < count[:, None]
        return cls(torch.as_tensor(index, device=device), torch.as_tensor(real, device=device))

    def gather(self, values: Tensor, padding: float) -> Tensor:
        """Bring (..., pixel) to (..., group, member)."""
        return torch.where(self.real, values[..., self.index], padding)

    def scatter(self, values: Tensor) -> Tensor:
        """Bring (..., group, member) back to (..., pixel)."""
        return values[..., self.real]  # pixels are in the order of groups


@functools.lru_cache(maxsize=8)
def _spline(wavelength: bytes, scale: float, device: torch.device) -> _SmoothingSpline:
    return _SmoothingSpline(np.frombuffer(wavelength), scale, device)


class _SmoothingSpline:
    """Cubic B-splines on equal intervals with the integral of the squared second derivative as penalty.

    The normal matrix of each star has seven bands, and stars differ by their good pixels only through sums over the
    pixels of an interval. Everything is elementwise over stars, so that none depends on its neighbours.
    """

    def __init__(self, wavelength: NDArray[np.float64], scale: float, device: torch.device) -> None:
        span = wavelength[-1] - wavelength[0]
        self.n_interval = max(1, int(np.ceil(span / scale * _KNOTS_PER_SCALE)))
        position = (wavelength - wavelength[0]) / span * self.n_interval
        interval = np.minimum(position.astype(np.int64), self.n_interval - 1)
        powers = (position - interval) ** np.arange(4)[:, None]
        basis = _POWERS_OF_B_SPLINE @ powers
        width = np.gradient(wavelength)  # a sum over pixels stands for the integral over wavelength

        start, end = _BENDING_AT_ENDS.T
        squares = (np.outer(start, start) + np.outer(end, end)) / 3.0
        squares += (np.outer(start, end) + np.outer(end, start)) / 6.0
        bending = scale**4 * squares / (span / self.n_interval) ** 3

        def put(array: NDArray[np.float64]) -> Tensor:
            return torch.as_tensor(array, dtype=torch.float64, device=device)

        self._interval = torch.as_tensor(interval, device=device)
        self._basis, self._bending = put(basis), bending
        self._groups = _Groups.of(interval, self.n_interval, device)
        self._moments = self._groups.gather(put(width * basis), 0.0)
        self._squares = [self._groups.gather(put(width * basis[i] * basis[j]), 0.0) for i, j in _PAIRS]

    def fit(self, flux: Tensor, used: Tensor) -> Tensor:
        """The spline at all pixels, shape (star, pixel), from the pixels that are used."""
        n_star, n_coefficient = len(flux), self.n_interval + 3
        weight = self._groups.gather(used.to(torch.float64), 0.0)
        weighted = weight * self._groups.gather(flux, 0.0)
        # Coefficients come first and stars last: the solution goes from one coefficient to the next.
        bands = flux.new_zeros((4, n_coefficient, n_star))  # bands[d, k]: element (k + d, k)
        right = flux.new_zeros((n_coefficient, n_star))
        for i, moment in enumerate(self._moments):
            right[i : i + self.n_interval] += (weighted * moment).sum(-1).mT
        for (i, j), square in zip(_PAIRS, self._squares, strict=True):
            bands[j - i, i : i + self.n_interval] += (weight * square).sum(-1).mT + self._bending[i, j]
        coefficients = _solve_banded(bands, right).mT
        parts = [coefficients[:, self._interval + i] * self._basis[i] for i in range(4)]
        return parts[0] + parts[1] + parts[2] + parts[3]


def _solve_banded(bands: Tensor, right: Tensor) -> Tensor:
    """Solve symmetric positive definite systems with three bands below the diagonal, by L D L^T.

    Parameters
    ----------
    bands : Tensor, shape (4, n, star)
        ``bands[d, k]`` is the element (k + d, k); overwritten.
    right : Tensor, shape (n, star)
        Overwritten.

    Returns
    -------
    Tensor, shape (n, star)
    """
    n = len(right)
    for k in range(n):
        below = min(3, n - 1 - k)
        column = bands[1 : below + 1, k].clone()
        ratio = column / bands[0, k]
        right[k + 1 : k + 1 + below] -= ratio * right[k]
        for d in range(below):  # the element (k + 1 + d + e, k + 1 + d) loses ratio[d + e] * column[d]
            bands[: below - d, k + 1 + d] -= ratio[d:] * column[d]
        bands[1 : below + 1, k] = ratio
        right[k] /= bands[0, k]
    for k in range(n - 2, -1, -1):
        below = min(3, n - 1 - k)
        right[k] -= (bands[1 : below + 1, k] * right[k + 1 : k + 1 + below]).sum(0)
    return right
