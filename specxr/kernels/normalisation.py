"""Spectra over their pseudo-continuum: one penalised spline for training sets and for observations."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from specxr.kernels.refraction import convert_medium

# Core of H-alpha, which emission fills (Sun et al. 2025, section 3.3) [Angstrom, air].
H_ALPHA_CORE = (6552.0, 6572.0)

# Centre and half width of what interstellar matter absorbs [Angstrom, air]: the stronger diffuse bands of
# Hobbs et al. 2008, ApJ 680, 1256, and Na D. Ca II K is left, the strongest metal line of an A star.
INTERSTELLAR_BANDS = (
    (4428.2, 12.0), (4501.8, 4.0), (4726.8, 4.0), (4762.6, 4.0), (4963.9, 4.0), (5404.6, 4.0), (5487.7, 4.0),
    (5508.1, 4.0), (5705.1, 4.0), (5780.5, 5.0), (5797.1, 4.0), (5849.8, 4.0), (5890.0, 4.0), (5895.9, 4.0),
    (6196.0, 4.0), (6203.1, 4.0), (6269.9, 4.0), (6283.8, 6.0), (6376.1, 4.0), (6379.3, 4.0), (6445.3, 4.0),
    (6613.6, 4.0), (6660.7, 4.0), (6699.3, 4.0), (6993.1, 4.0), (7224.0, 4.0),
)  # fmt: skip

_KNOTS_PER_SCALE = 2  # the spline is then within 1e-4 of the one with a knot at every pixel
_MAD_TO_SIGMA = 1.4826
_POWERS_OF_B_SPLINE = np.array(  # rows: the four cubic B-splines of an interval; columns: 1, u, u^2, u^3
    [[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]]
) / 6.0  # fmt: skip
_BENDING_AT_ENDS = np.array([[1.0, 0.0], [-2.0, 1.0], [1.0, -2.0], [0.0, 1.0]])  # their second derivatives
_PAIRS = [(i, j) for i in range(4) for j in range(i, 4)]


@dataclass(frozen=True)
class Normalisation:
    """How spectra are divided by their pseudo-continuum; it travels with every training set and trained model.

    Parameters
    ----------
    scale : float
        h [Angstrom] of the smoothing spline s that minimises
        int (flux - s)^2 d lambda + h^4 int s''^2 d lambda: waves longer than 2 pi h are taken off.
    rounds : int, optional
        How often the spline is fitted; between two fits, pixels that stand out are rejected. One round is the
        smoothing spline of the M-dwarf paper (section 3), three are the hot-star paper's (section 3.1).
    clip : float, optional
        A pixel of flux / s stands out by so many standard deviations (1.48 MAD) from the median of its window.
    window : float, optional
        Width of the windows [Angstrom].
    excluded : tuple of (float, float), optional
        Wavelength ranges [Angstrom, in the medium of the spectra] that neither the spline nor, having no inverse
        variance afterwards, a fit of labels sees.
    """

    scale: float
    rounds: int = 1
    clip: float = 3.0
    window: float = 100.0
    excluded: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        for name in ("scale", "rounds", "clip", "window"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"{name} of the normalisation is {getattr(self, name)}; a positive number is required; "
                    "the published recipes are specxr.kernels.normalisation.hot_stars and m_dwarfs."
                )

    def to_json(self) -> str:
        """Write it as JSON, for attributes of cubes and metadata of models."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Normalisation:
        """Read what `to_json` wrote."""
        try:
            fields = json.loads(text)
            fields["excluded"] = tuple((float(low), float(high)) for low, high in fields["excluded"])
            return cls(**fields)
        except (TypeError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{text!r} is no normalisation ({error}); what Normalisation.to_json writes is required; "
                "make the training set again."
            ) from error


def hot_stars(medium: str, scale: float = 100.0) -> Normalisation:
    """Three rounds of spline and rejection, H-alpha's core and interstellar bands masked (hot-star paper, 3.1, 3.3).

    `medium` is that of the spectra's wavelengths, ``"vacuum"`` or ``"air"``.
    """
    bands = [(centre - half, centre + half) for centre, half in INTERSTELLAR_BANDS]
    ranges = convert_medium(np.array(sorted([*bands, H_ALPHA_CORE])), "air", medium).round(2)
    return Normalisation(scale, rounds=3, excluded=tuple((float(low), float(high)) for low, high in ranges))


def m_dwarfs(scale: float = 100.0) -> Normalisation:
    """The smoothing-spline pseudo-continuum of the M-dwarf paper, section 3."""
    return Normalisation(scale)


def within(wavelength: ArrayLike, ranges: tuple[tuple[float, float], ...]) -> NDArray[np.bool_]:
    """Whether each wavelength [Angstrom] lies in one of the ranges, shape (wavelength,)."""
    wavelength = np.asarray(wavelength, dtype=np.float64)
    inside = np.zeros(wavelength.shape, dtype=bool)
    for low, high in ranges:
        inside |= (wavelength >= low) & (wavelength <= high)
    return inside


def normalise(
    flux: Tensor, ivar: Tensor, good: Tensor, wavelength: ArrayLike, recipe: Normalisation
) -> tuple[Tensor, Tensor]:
    """Divide spectra by their pseudo-continuum.

    Parameters
    ----------
    flux, ivar : Tensor, shape (star, pixel)
        Any units; what is not finite is not used.
    good : Tensor of bool, shape (star, pixel)
        Pixels that may be used.
    wavelength : array_like, shape (pixel,)
        Pixel centres [Angstrom], increasing.
    recipe : Normalisation

    Returns
    -------
    flux, ivar : Tensor, shape (star, pixel)
        Without units. Where a pixel is not good, is excluded or has no positive pseudo-continuum, the flux is 1 and
        the inverse variance 0.
    """
    wavelength = np.asarray(wavelength, dtype=np.float64)
    excluded = torch.as_tensor(within(wavelength, recipe.excluded), device=flux.device)
    good = good & torch.isfinite(flux) & torch.isfinite(ivar) & ~excluded
    continuum = pseudo_continuum(flux, good, wavelength, recipe)
    good = good & (continuum > 0)
    ratio = torch.where(good, flux / continuum, 1.0)
    return ratio.to(flux.dtype), torch.where(good, ivar * continuum**2, 0.0).to(ivar.dtype)


def pseudo_continuum(flux: Tensor, good: Tensor, wavelength: ArrayLike, recipe: Normalisation) -> Tensor:
    """Fit the pseudo-continuum of each spectrum.

    Parameters
    ----------
    flux : Tensor, shape (star, pixel)
    good : Tensor of bool, shape (star, pixel)
        Pixels that may be used, with finite flux.
    wavelength : array_like, shape (pixel,)
        Pixel centres [Angstrom], increasing.
    recipe : Normalisation

    Returns
    -------
    Tensor of float64, shape (star, pixel)
        NaN for stars with fewer than four good pixels.
    """
    wavelength = np.asarray(wavelength, dtype=np.float64)
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
