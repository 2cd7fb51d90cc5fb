"""Abundance trends, [X/Fe] against [Fe/H]: running medians, and distributions without the errors of the labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

LEAST_STARS = 20


def running_median(
    x: ArrayLike,
    y: ArrayLike,
    *,
    width: float = 0.2,
    step: float = 0.1,
    least: int = LEAST_STARS,
    n_bootstrap: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute medians in windows that move along an axis, and their errors by drawing the stars again.

    Parameters
    ----------
    x, y : array_like, shape (star,)
        Such as [Fe/H] and [X/Fe] [dex]; stars of which one is not finite are left out.
    width, step : float, optional
        Width of a window and how far it moves [units of x].
    least : int, optional
        Stars of a window; one with fewer is left out.
    n_bootstrap : int, optional
        How often the stars of a window are drawn again.
    seed : int, optional

    Returns
    -------
    DataFrame
        A row for each window: ``x``, its middle, ``median``, ``median_err`` (standard deviation of the medians of the
        samples that were drawn), ``low`` and ``high`` (16th and 84th percentile of the stars), and ``n``. Windows
        overlap where ``step`` is less than ``width``; their errors are then not independent. Empty without stars.

    Raises
    ------
    ValueError
        The width or step is not positive.
    """
    if not (width > 0 and step > 0):
        raise ValueError(
            f"the width is {width:g} and the step {step:g}; positive numbers are required. Correct them."
        )
    a, b = np.broadcast_arrays(np.asarray(x, "f8"), np.asarray(y, "f8"))
    known = np.isfinite(a + b)
    order = np.argsort(a[known], kind="stable")
    a, b = a[known][order], b[known][order]
    rng = np.random.default_rng(seed)
    rows = []
    ends = (np.ceil(a[0] / step), np.floor(a[-1] / step) + 1) if a.size else (0.0, 0.0)
    for middle in np.arange(*ends) * step:
        first, stop = np.searchsorted(a, (middle - width / 2, middle + width / 2))
        members = b[first:stop]
        if members.size < least:
            continue
        drawn = members[rng.integers(0, members.size, (n_bootstrap, members.size))]
        low, median, high = np.percentile(members, (16, 50, 84))
        error = float(np.median(drawn, axis=1).std())
        row = {
            "x": middle,
            "median": median,
            "median_err": error,
            "low": low,
            "high": high,
            "n": members.size,
        }
        rows.append(row)
    return pd.DataFrame(rows, columns=["x", "median", "median_err", "low", "high", "n"])


@dataclass(frozen=True, eq=False)
class Deconvolution:
    """A mixture of normal distributions, of what the stars truly are.

    Attributes
    ----------
    weights : ndarray, shape (component,)
    means : ndarray, shape (component, quantity)
    covariances : ndarray, shape (component, quantity, quantity)
        Without the errors of the stars.
    log_likelihood : float
        Of all stars, with their errors.
    n_stars : int
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]
    log_likelihood: float
    n_stars: int

    @property
    def bic(self) -> float:
        """Bayesian information criterion; the number of components with the least of it is preferred."""
        n, d = self.means.shape
        parameters = n - 1 + n * d + n * d * (d + 1) // 2
        return float(parameters * np.log(self.n_stars) - 2.0 * self.log_likelihood)

    def density(self, points: ArrayLike) -> NDArray[np.float64]:
        """Density of true quantities at points of shape (..., quantity), shape (...)."""
        values = np.asarray(points, "f8")
        flat = values.reshape(-1, values.shape[-1])
        none = np.zeros((flat.shape[0], flat.shape[1], flat.shape[1]))
        density = np.exp(logsumexp(self._log_joint(flat, none), axis=1))
        return np.asarray(density.reshape(values.shape[:-1]))

    def membership(self, values: ArrayLike, covariances: ArrayLike) -> NDArray[np.float64]:
        """Probability that each star is of each component, from its quantities and their errors.

        Parameters
        ----------
        values : array_like, shape (star, quantity)
        covariances : array_like, shape (star, quantity, quantity)

        Returns
        -------
        ndarray, shape (star, component)
        """
        joint = self._log_joint(np.asarray(values, "f8"), np.asarray(covariances, "f8"))
        return np.asarray(np.exp(joint - logsumexp(joint, axis=1, keepdims=True)))

    def _log_joint(self, values: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
        away = values[:, None] - self.means
        total = self.covariances + noise[:, None]
        squared = np.einsum("nki,nki->nk", away, np.linalg.solve(total, away[..., None])[..., 0])
        constant = np.linalg.slogdet(2.0 * np.pi * total)[1]
        return np.asarray(np.log(self.weights) - 0.5 * (squared + constant))


def deconvolve(
    values: ArrayLike, covariances: ArrayLike, n_components: int = 2, *, seed: int = 0, max_iter: int = 500
) -> Deconvolution:
    """Fit the distribution of true quantities to stars whose errors differ: extreme deconvolution.

    Parameters
    ----------
    values : array_like, shape (star, quantity)
        Such as [Fe/H] and [X/Fe].
    covariances : array_like, shape (star, quantity, quantity)
        Of the errors of each star.
    n_components : int, optional
        Normal distributions of the mixture.
    seed : int, optional
        Of the stars at which the components begin.
    max_iter : int, optional

    Returns
    -------
    Deconvolution
        Of the stars whose numbers are all finite.

    Raises
    ------
    ValueError
        The shapes differ, a covariance has a negative variance, or fewer than ten stars for a component are there.

    Notes
    -----
    Expectation maximisation of Bovy, Hogg & Roweis (2011, Ann. Appl. Stat. 5, 1657, equations 16 and 17), with all
    quantities measured. The variance of a component has a floor of 1e-6 of that of the stars.
    """
    v, s = np.asarray(values, "f8"), np.asarray(covariances, "f8")
    if v.ndim != 2 or s.shape != (*v.shape, v.shape[1]):
        raise ValueError(
            f"the values have shape {v.shape} and the covariances {s.shape}; (star, quantity) and (star, quantity, "
            "quantity) are required. Stack them so; errors that are independent stand on the diagonal, squared."
        )
    known = np.isfinite(v).all(axis=1) & np.isfinite(s).all(axis=(1, 2))
    v, s = v[known], s[known]
    negative = int((np.diagonal(s, axis1=1, axis2=2) < 0).any(axis=1).sum())
    if negative or len(v) < 10 * n_components or n_components < 1:
        raise ValueError(
            f"{len(v)} of {known.size} stars have finite values and covariances, {negative} of them a negative "
            f"variance; at least ten stars for each of the {n_components} components, and no negative variance, are "
            "required. Take fewer components, or drop these stars."
        )
    scale = v.std(axis=0)
    floor = np.diag(1e-6 * np.maximum(scale, 1e-12) ** 2)
    means = _spread_out(v / np.maximum(scale, 1e-12), n_components, np.random.default_rng(seed)) * scale
    covariances_ = np.repeat(
        (np.cov(v.T).reshape(scale.size, -1) + floor)[None] / n_components, n_components, 0
    )
    fit = Deconvolution(np.full(n_components, 1.0 / n_components), means, covariances_, -np.inf, len(v))
    for _ in range(max_iter):
        joint = fit._log_joint(v, s)
        total = float(logsumexp(joint, axis=1).sum())
        share = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        # Mean and covariance of the true quantities of each star, if it is of each component.
        gain = np.swapaxes(np.linalg.solve(fit.covariances + s[:, None], fit.covariances[None]), -1, -2)
        true = fit.means + np.einsum("nkij,nkj->nki", gain, v[:, None] - fit.means)
        left = fit.covariances - gain @ fit.covariances
        counts = share.sum(axis=0) + 1e-12
        means = np.einsum("nk,nki->ki", share, true) / counts[:, None]
        away = true - means
        spread = np.einsum("nk,nki,nkj->kij", share, away, away) + np.einsum("nk,nkij->kij", share, left)
        better = Deconvolution(
            counts / counts.sum(), means, spread / counts[:, None, None] + floor, total, len(v)
        )
        if total - fit.log_likelihood < 1e-7 * abs(total):
            return better
        fit = better
    return fit


def _spread_out(points: NDArray[np.float64], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Some stars that are far from one another, drawn as k-means++ does."""
    chosen = [points[rng.integers(len(points))]]
    while len(chosen) < n:
        nearest = np.min([((points - c) ** 2).sum(axis=1) for c in chosen], axis=0)
        total = nearest.sum()
        chance = nearest / total if total > 0 else np.full(len(points), 1.0 / len(points))
        chosen.append(points[rng.choice(len(points), p=chance)])
    return np.stack(chosen)
