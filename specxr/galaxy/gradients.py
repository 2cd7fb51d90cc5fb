"""Radial gradients of abundances: bins, and straight or broken lines fitted to the stars themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

LEAST_TRACERS = 10  # of a fit
_GROUPS, _LEAST_IN_GROUP = 10, 100  # of stars with similar errors of the radius
_BREAKS = (
    15  # radii that are tried as the place of a break, between the 10th and 90th percentile of the stars
)

_Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gradient:
    """A fitted gradient.

    Attributes
    ----------
    values, errors : dict of str to float
        ``zero``, the abundance at `pivot` (or at the break, of a broken line) [dex]; ``slope``, that inside the break
        [dex/kpc]; of a broken line ``outer_slope`` and ``break_radius`` [kpc]; ``scatter``, the intrinsic scatter
        [dex]; of a mixture ``outliers``, their share, and ``outlier_mean`` and ``outlier_scatter`` [dex]. An error is
        NaN where the value lies at the end of its range, such as a scatter of zero.
    covariance : ndarray, shape (parameter, parameter)
        Of the parameters in the order of `values`.
    pivot : float
        [kpc].
    n_stars : int
    log_likelihood : float
        Its logarithm at the maximum.
    """

    values: Mapping[str, float]
    errors: Mapping[str, float]
    covariance: _Array
    pivot: float
    n_stars: int
    log_likelihood: float

    @property
    def bic(self) -> float:
        """Bayesian information criterion; of two fits of the same stars the one with less of it is preferred."""
        return len(self.values) * math.log(self.n_stars) - 2.0 * self.log_likelihood

    def line(self, radius: ArrayLike) -> tuple[_Array, _Array]:
        """Abundance at some radii [kpc] and the error that the fit leaves of it [dex], shapes (radius,)."""
        radius = np.asarray(radius, "f8")
        names, v = list(self.values), self.values
        at = v.get("break_radius", self.pivot)
        outer = (radius >= at) & ("break_radius" in v)
        slope = np.where(outer, v.get("outer_slope", 0.0), v["slope"])
        gradient = np.zeros((len(names), *radius.shape))
        gradient[names.index("zero")] = 1.0
        gradient[names.index("slope")] = np.where(outer, 0.0, radius - at)
        if "break_radius" in v:
            gradient[names.index("outer_slope")] = np.where(outer, radius - at, 0.0)
            gradient[names.index("break_radius")] = -slope
        known = np.nan_to_num(self.covariance)
        variance = np.einsum("i...,ij,j...->...", gradient, known, gradient)
        return v["zero"] + slope * (radius - at), np.sqrt(np.maximum(variance, 0.0))


@dataclass(frozen=True, eq=False)
class GradientLikelihood:
    """The likelihood of a gradient: a function of its parameters, for a maximiser or a sampler.

    Parameters
    ----------
    radius, value, error, radius_err : ndarray, shape (star,)
        Radius [kpc] and abundance [dex], and the errors of both; all finite.
    broken : bool
        Whether the line has a break.
    outliers : bool
        Whether a share of the stars does not follow the line.
    pivot : float
        Radius at which the zero point of a straight line is given [kpc].

    Notes
    -----
    A star's abundance is normal about the line, with the variance of its error, of the intrinsic scatter, and of its
    radius times the square of the slope. The radius has an error of its own, and a star that is seen far out is on
    average farther in: without this, slopes come out too flat. The true radii are taken as normal, with the mean and
    variance of the observed ones less that of the errors, so that each star has a mean and variance of its true radius
    (Kelly 2007, ApJ 665, 1489, with one component). Stars that are far from the Sun have large errors and lie far out
    or far in, so this is done among stars with similar errors. Outliers are normal about a mean of their own (Hogg et
    al. 2010, arXiv:1008.4686, equation 17).
    """

    radius: _Array
    value: _Array
    error: _Array
    radius_err: _Array
    broken: bool = False
    outliers: bool = True
    pivot: float = 8.0
    _columns: tuple[torch.Tensor, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        columns = (*_true_radii(self.radius, self.radius_err), self.value, self.error**2)
        object.__setattr__(
            self, "_columns", tuple(torch.from_numpy(np.ascontiguousarray(c)) for c in columns)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in their order."""
        line = ("zero", "slope", *(("outer_slope", "break_radius") if self.broken else ()), "scatter")
        return line + (("outliers", "outlier_mean", "outlier_scatter") if self.outliers else ())

    def __call__(self, parameters: ArrayLike) -> float:
        """Logarithm of the likelihood; the parameters are in the order of `names`."""
        return -float(self.cost(torch.from_numpy(np.asarray(parameters, "f8"))))

    def cost(self, parameters: torch.Tensor) -> torch.Tensor:
        """Negative logarithm of the likelihood, which torch can differentiate."""
        p = dict(zip(self.names, parameters, strict=True))
        radius, unknown, value, noise = self._columns
        if self.broken:
            slope = torch.where(radius < p["break_radius"], p["slope"], p["outer_slope"])
            line = p["zero"] + slope * (radius - p["break_radius"])
        else:
            slope = p["slope"]
            line = p["zero"] + slope * (radius - self.pivot)
        density = _log_normal(value - line, noise + p["scatter"] ** 2 + slope**2 * unknown)
        if self.outliers:
            away = _log_normal(value - p["outlier_mean"], noise + p["outlier_scatter"] ** 2)
            density = torch.logaddexp(torch.log1p(-p["outliers"]) + density, torch.log(p["outliers"]) + away)
        return -density.sum()


def fit_gradient(
    radius: ArrayLike,
    value: ArrayLike,
    error: ArrayLike,
    radius_err: ArrayLike = 0.0,
    *,
    broken: bool = False,
    outliers: bool = True,
    pivot: float = 8.0,
) -> Gradient:
    """Fit a straight or broken line to abundances of stars, by maximum likelihood.

    Parameters
    ----------
    radius, value : array_like, shape (star,)
        Galactocentric radius [kpc] and abundance [dex].
    error, radius_err : array_like, shape (star,)
        Their errors.
    broken : bool, optional
        Whether the line has a break, whose radius is fitted.
    outliers : bool, optional
        Whether a share of the stars is allowed not to follow the line.
    pivot : float, optional
        Radius at which the zero point of a straight line is given [kpc].

    Returns
    -------
    Gradient
        Of the stars of which all four numbers are finite, the error of the abundance is positive and the radius is
        between 0 and 100 kpc.

    Raises
    ------
    ValueError
        Fewer than ten such stars are there, or all have one radius; or the radii are in pc.
    """
    usable = _usable((radius, value, error, radius_err))
    likelihood = GradientLikelihood(*usable, broken, outliers, pivot)
    start, scale, bounds = _start(likelihood)
    if not broken:
        best = _maximise(likelihood, start, scale, bounds)
    else:
        # The likelihood has several maxima along the radius of the break; the highest of some is followed.
        place = likelihood.names.index("break_radius")
        tried = []
        for at in np.quantile(likelihood.radius, np.linspace(0.1, 0.9, _BREAKS)):
            begin, held = start.copy(), list(bounds)
            begin[0] += start[1] * (at - start[place])
            begin[place], held[place] = at, (at, at)
            tried.append(_maximise(likelihood, begin, scale, held))
        best = _maximise(likelihood, max(tried, key=likelihood), scale, bounds)
    covariance = _covariance(likelihood, best, bounds)
    with np.errstate(invalid="ignore"):
        errors = np.sqrt(np.diag(covariance))
    return Gradient(
        dict(zip(likelihood.names, best.tolist(), strict=True)),
        dict(zip(likelihood.names, errors.tolist(), strict=True)),
        covariance,
        pivot,
        likelihood.radius.size,
        likelihood(best),
    )


def bin_gradient(
    radius: ArrayLike, value: ArrayLike, error: ArrayLike, *, width: float = 0.5, least: int = 50
) -> pd.DataFrame:
    """Compute weighted means of an abundance in bins of radius, each with enough stars.

    Parameters
    ----------
    radius, value, error : array_like, shape (star,)
        Galactocentric radius [kpc], abundance and its error [dex].
    width : float, optional
        Width of a bin [kpc].
    least : int, optional
        Stars that a bin needs; one with fewer is joined with the next outward, the last with the one inside it.

    Returns
    -------
    DataFrame
        For each bin ``lower``, ``upper`` and ``radius`` (mean) [kpc], ``value``, the mean with weights of one over
        the squared error, ``value_err``, the error of this mean from the scatter in the bin, ``scatter``, the weighted
        standard deviation [dex], ``n``, and ``joined``, the number of bins of the width that were joined. Empty where
        fewer than ``least`` stars are there at all.
    """
    r, y, e, _ = _usable((radius, value, error, 0.0), least=1)
    bins, counts = np.unique(np.floor(r / width).astype(np.int64), return_counts=True)
    groups: list[list[int]] = []  # first bin, last bin, stars
    for place, count in zip(bins.tolist(), counts.tolist(), strict=True):
        if groups and groups[-1][2] < least:
            groups[-1][1:] = [place, groups[-1][2] + count]
        else:
            groups.append([place, place, count])
    if len(groups) > 1 and groups[-1][2] < least:
        _, last, count = groups.pop()
        groups[-1][1:] = [last, groups[-1][2] + count]
    rows = []
    for first, last, count in groups:
        if count < least:
            continue
        lower, upper = first * width, (last + 1) * width
        inside = (r >= lower) & (r < upper)
        weight = e[inside] ** -2.0
        weight /= weight.sum()
        mean = float(weight @ y[inside])
        away = (y[inside] - mean) ** 2
        row = {"lower": lower, "upper": upper, "radius": float(r[inside].mean()), "value": mean}
        row |= {"value_err": float(np.sqrt(weight**2 @ away)), "scatter": float(np.sqrt(weight @ away))}
        rows.append(row | {"n": count, "joined": last - first + 1})
    return pd.DataFrame(
        rows, columns=["lower", "upper", "radius", "value", "value_err", "scatter", "n", "joined"]
    )


def _usable(
    columns: tuple[ArrayLike, ...], least: int = LEAST_TRACERS
) -> tuple[_Array, _Array, _Array, _Array]:
    radius, value, error, radius_err = np.broadcast_arrays(*(np.asarray(c, "f8") for c in columns))
    known = np.isfinite(radius + value + error + radius_err) & (error > 0) & (radius_err >= 0) & (radius > 0)
    middle = float(np.median(radius[known])) if known.any() else 0.0
    if middle > 100.0:
        raise ValueError(
            f"the middle radius is {middle:g}; radii in kpc are required. Divide radii in pc by 1,000."
        )
    if known.sum() < least or (least > 1 and np.ptp(radius[known]) == 0):
        raise ValueError(
            f"{known.sum()} of {known.size} stars have a radius, an abundance and errors of both; at least {least} "
            "with different radii are required. Check for missing distances, labels at a limit and errors of zero."
        )
    return radius[known], value[known], error[known], radius_err[known]


def _true_radii(radius: _Array, error: _Array) -> tuple[_Array, _Array]:
    """Mean and variance of the true radius of each star [kpc, kpc^2]."""
    mean, variance = radius.copy(), np.zeros(radius.shape)
    groups = max(1, min(_GROUPS, radius.size // _LEAST_IN_GROUP))
    for group in np.array_split(np.argsort(error, kind="stable"), groups):
        r, noise = radius[group], error[group] ** 2
        spread = max(float(r.var() - noise.mean()), 0.1 * float(r.var()))
        mean[group] = (r * spread + r.mean() * noise) / (spread + noise)
        variance[group] = spread * noise / (spread + noise)
    return mean, variance


def _log_normal(away: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    return -0.5 * (away**2 / variance + torch.log(2.0 * math.pi * variance))


def _start(likelihood: GradientLikelihood) -> tuple[_Array, _Array, list[tuple[float, float]]]:
    """Where a fit begins, by how much its parameters are to change, and their ranges."""
    r, y, n = likelihood.radius, likelihood.value, likelihood.radius.size
    kept = np.ones(n, bool)
    for _ in range(5):
        slope, zero = np.polyfit(r[kept] - likelihood.pivot, y[kept], 1)
        away = y - zero - slope * (r - likelihood.pivot)
        width = max(1.4826 * float(np.median(np.abs(away))), 1e-6)
        kept = np.abs(away) < 4.0 * width
    middle, extent, unit = float(np.median(r)), float(r.std()), width / math.sqrt(n)
    known = {
        "zero": (zero, unit, (-np.inf, np.inf)),
        "slope": (slope, unit / extent, (-np.inf, np.inf)),
        "outer_slope": (slope, unit / extent, (-np.inf, np.inf)),
        "break_radius": (middle, 0.1 * extent, tuple(np.quantile(r, (0.05, 0.95)))),
        "scatter": (0.5 * width, unit, (1e-3 * width, 10.0 * width)),
        "outliers": (0.02, 1.0 / math.sqrt(n), (1e-4, 0.5)),
        "outlier_mean": (float(np.median(y)), width, (float(y.min()), float(y.max()))),
        # What is as narrow as the line itself is no outlier.
        "outlier_scatter": (5.0 * width, width, (3.0 * width, max(float(np.ptp(y)), 10.0 * width))),
    }
    if likelihood.broken:  # the zero point of a broken line is that at its break
        known["zero"] = (zero + slope * (middle - likelihood.pivot), *known["zero"][1:])
    chosen = [known[name] for name in likelihood.names]
    return np.array([c[0] for c in chosen]), np.array([c[1] for c in chosen]), [c[2] for c in chosen]


def _maximise(
    likelihood: GradientLikelihood, start: _Array, scale: _Array, bounds: list[tuple[float, float]]
) -> _Array:
    def cost(scaled: _Array) -> tuple[float, _Array]:
        parameters = torch.tensor(start + scale * scaled, requires_grad=True)
        value = likelihood.cost(parameters)
        (gradient,) = torch.autograd.grad(value, parameters)
        return float(value.detach()), gradient.numpy() * scale

    limits = [((low - s) / u, (high - s) / u) for (low, high), s, u in zip(bounds, start, scale, strict=True)]
    found = minimize(
        cost,
        np.zeros(len(start)),
        jac=True,
        method="L-BFGS-B",
        bounds=limits,
        options={"maxiter": 500, "ftol": 1e-14, "gtol": 1e-6},
    )
    low, high = np.array(bounds).T
    return np.asarray(np.clip(start + scale * found.x, low, high))


def _covariance(likelihood: GradientLikelihood, best: _Array, bounds: list[tuple[float, float]]) -> _Array:
    """Inverse of the matrix of second derivatives, NaN for parameters at the end of their range."""
    free = np.array([low < value < high for value, (low, high) in zip(best, bounds, strict=True)])
    if likelihood.outliers and not free[likelihood.names.index("outliers")]:
        free[likelihood.names.index("outliers") :] = (
            False  # without outliers they have neither mean nor scatter
        )
    second = torch.autograd.functional.hessian(likelihood.cost, torch.from_numpy(best))  # type: ignore[no-untyped-call]
    hessian = second.numpy()
    out = np.full(hessian.shape, np.nan)
    out[np.ix_(free, free)] = np.linalg.pinv(hessian[np.ix_(free, free)], hermitian=True)
    return out
