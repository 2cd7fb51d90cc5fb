"""Blue horizontal branch stars and blue stragglers: candidates, probabilities, distances, rotation (section 5.3)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr
from scipy.stats import ks_2samp

from specxr.galaxy.columns import require
from specxr.published.hot_stars import BHB_FEH, BHB_LATITUDE, BHB_LOGG, BHB_SNR, VSINI_LIMIT
from specxr.vocabulary import LABEL, LABEL_

# M_g = 0.178 / (0.537 + (g - r)_0) (Barbosa et al. 2022, ApJ 940, 30), for stars of these colours.
# Its scatter is that between the distances from g - r and from u - r of 5,699 stars (docs/measured/galaxy.md).
_MAGNITUDE, _COLOUR = 0.178, 0.537
_COLOURS = (-0.3, 0.1)
BHB_SCATTER = 0.07


def metal_poor_candidate(
    stars: xr.Dataset,
    feh: float = BHB_FEH,
    latitude: float = BHB_LATITUDE,
    snr: float = BHB_SNR,
    name: str = "snr_r",
) -> xr.DataArray:
    """Whether a star is a candidate of the horizontal branch or a straggler: metal-poor and far from the plane.

    Parameters
    ----------
    stars : Dataset
        ``feh`` [dex], ``b`` [degree] and the S/N along ``star``, lazy or in memory.
    feh, latitude, snr : float, optional
        Largest [Fe/H] [dex], least distance from the plane of the Galaxy [degree] and least S/N, all left out but the
        last; those of the paper by default.
    name : str, optional
        Variable of the S/N.

    Returns
    -------
    DataArray
        Boolean, false where a number is missing.
    """
    require(stars, "feh", "b", name)
    far = (stars["b"] > latitude) | (stars["b"] < -latitude)
    holds = (stars["feh"] < feh) & far & (stars[name] >= snr)
    prose = f"[Fe/H] < {feh:g}, |b| > {latitude:g} degree, {name} >= {snr:g}"
    return holds.rename("metal_poor_candidate").drop_attrs().assign_attrs(long_name=prose)


def on_horizontal_branch(stars: xr.Dataset, logg: float = BHB_LOGG) -> xr.DataArray:
    """Whether a star has the gravity of a horizontal branch star, less than ``logg`` [dex]; a straggler has more."""
    require(stars, "logg")
    holds = (stars["logg"] < logg).rename("on_horizontal_branch").drop_attrs()
    return holds.assign_attrs(long_name=f"logg < {logg:g}: of the horizontal branch, if it is a candidate")


def bhb_probability(labels: xr.Dataset, logg: float = BHB_LOGG, feh: float = BHB_FEH) -> xr.DataArray:
    """Probability that the true labels of a star lie where those of horizontal branch stars do, by its own errors.

    Parameters
    ----------
    labels : Dataset
        ``logg`` and ``feh`` with their errors along ``star``, and ``covariance`` where it is known.
    logg, feh : float, optional
        The star counts below both [dex].

    Returns
    -------
    DataArray
        Between 0 and 1; NaN where a label or its error is missing. Without a covariance the errors count as
        independent.

    Notes
    -----
    It is the integral of a bivariate normal density over the quadrant below both limits. How common these stars are in
    the survey is left out: where most stars are disc stars, a metal-poor label of large error is rather one of those.
    """
    require(labels, "logg", "feh", "logg_err", "feh_err")
    if "covariance" in labels:
        cross = labels["covariance"].sel({LABEL: "logg", LABEL_: "feh"}, drop=True)
    else:
        cross = xr.zeros_like(labels["logg"])
    columns = [labels[name] for name in ("logg", "feh", "logg_err", "feh_err")]
    out: xr.DataArray = xr.apply_ufunc(
        _below_both,
        *columns,
        cross,
        kwargs={"limits": (logg, feh)},
        dask="parallelized",
        output_dtypes=["f8"],
    )
    prose = f"probability of logg < {logg:g} and [Fe/H] < {feh:g}, from the errors of the labels"
    return out.rename("bhb_probability").assign_attrs(units="1", long_name=prose)


class BHBDistance(NamedTuple):
    """Absolute magnitudes and distances of blue horizontal branch stars, each of shape (star,).

    Attributes
    ----------
    magnitude, magnitude_err : ndarray
        In the band g of SDSS [mag].
    distance, distance_err : ndarray
        [kpc].
    """

    magnitude: NDArray[np.float64]
    magnitude_err: NDArray[np.float64]
    distance: NDArray[np.float64]
    distance_err: NDArray[np.float64]


def bhb_distance(
    g0: ArrayLike, g_r0: ArrayLike, g0_err: ArrayLike = 0.0, g_r0_err: ArrayLike = 0.0
) -> BHBDistance:
    """Distances of blue horizontal branch stars from their absolute magnitude, which depends on their colour.

    Parameters
    ----------
    g0, g_r0 : array_like, shape (star,)
        Magnitude g and colour g - r of SDSS, both without extinction [mag].
    g0_err, g_r0_err : array_like, shape (star,), optional
        Their errors.

    Returns
    -------
    BHBDistance
        NaN beyond the colours -0.3 to 0.1 that the relation was made for. The error has the scatter of the relation,
        0.07 mag, and the errors of both numbers.

    Notes
    -----
    M_g = 0.178 / (0.537 + (g - r)_0), Barbosa et al. (2022).
    """
    colour = np.asarray(g_r0, "f8")
    colour = np.where((colour >= _COLOURS[0]) & (colour <= _COLOURS[1]), colour, np.nan)
    magnitude = _MAGNITUDE / (_COLOUR + colour)
    slope = -magnitude / (_COLOUR + colour)
    error = np.hypot(BHB_SCATTER, slope * np.asarray(g_r0_err, "f8"))
    distance = 10.0 ** ((np.asarray(g0, "f8") - magnitude - 10.0) / 5.0)
    relative = np.log(10.0) / 5.0 * np.hypot(error, np.asarray(g0_err, "f8"))
    return BHBDistance(magnitude, error, distance, distance * relative)


class RotationTest(NamedTuple):
    """Two samples of rotations compared by the test of Kolmogorov and Smirnov.

    Attributes
    ----------
    distance : float
        Largest difference of the two cumulative distributions.
    probability : float
        That two samples of one distribution differ as much.
    at : float
        Rotation where they differ most [km/s].
    n : (int, int)
        Stars of each sample.
    """

    distance: float
    probability: float
    at: float
    n: tuple[int, int]


def compare_rotation(one: ArrayLike, other: ArrayLike, limit: float = VSINI_LIMIT) -> RotationTest:
    """Compare the rotation of two samples above the slowest one that can be seen.

    Parameters
    ----------
    one, other : array_like, shape (star,)
        vsini [km/s]; values that are not finite are left out.
    limit : float, optional
        Slowest rotation that the spectra show [km/s]: slower stars all count as this slow. Zero compares as they are.

    Returns
    -------
    RotationTest

    Raises
    ------
    ValueError
        A sample has fewer than five stars.
    """
    samples = [np.asarray(values, "f8").ravel() for values in (one, other)]
    samples = [np.maximum(values[np.isfinite(values)], limit) for values in samples]
    sizes = (samples[0].size, samples[1].size)
    if min(sizes) < 5:
        raise ValueError(
            f"the samples have {sizes[0]} and {sizes[1]} stars with a rotation; at least five each are required. Relax "
            "the criteria, or take more stars."
        )
    found = ks_2samp(*samples, method="asymp")
    return RotationTest(float(found.statistic), float(found.pvalue), float(found.statistic_location), sizes)


def _below_both(
    logg: NDArray[Any],
    feh: NDArray[Any],
    logg_err: NDArray[Any],
    feh_err: NDArray[Any],
    cross: NDArray[Any],
    limits: tuple[float, float],
) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        good = (logg_err > 0) & (feh_err > 0)
        h = (limits[0] - logg) / np.where(good, logg_err, np.nan)
        k = (limits[1] - feh) / np.where(good, feh_err, np.nan)
        rho = np.clip(np.where(np.isfinite(cross), cross, 0.0) / (logg_err * feh_err), -0.999, 0.999)
    return _bivariate(h, k, np.where(good, rho, 0.0))


def _bivariate(h: NDArray[Any], k: NDArray[Any], rho: NDArray[Any]) -> NDArray[np.float64]:
    """Probability that two normal variables of correlation ``rho`` lie below ``h`` and ``k``."""
    # Plackett's identity: its derivative along the correlation is the density at the corner, which is smooth.
    nodes, weights = np.polynomial.legendre.leggauss(32)
    angle = np.arcsin(rho)[..., None] * (nodes + 1.0) / 2.0
    sine, cosine2 = np.sin(angle), np.cos(angle) ** 2
    h_, k_ = np.clip(h, -40, 40)[..., None], np.clip(k, -40, 40)[..., None]
    density = np.exp(-(h_**2 - 2.0 * h_ * k_ * sine + k_**2) / (2.0 * cosine2))
    added = np.arcsin(rho) / (4.0 * np.pi) * (density @ weights)
    return np.asarray(np.clip(ndtr(h) * ndtr(k) + added, 0.0, 1.0))
