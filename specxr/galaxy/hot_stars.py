"""Which stars belong to a sample of hot stars: the criteria of the hot-star paper (sections 2, 5.1 and 5.2).

Each function takes a dataset along ``star`` and returns one variable along ``star``, lazy where the dataset is, whose
attribute ``long_name`` says what it is. Criteria are combined with ``&``. A star that lacks a number does not meet the
criterion, unless the criterion says otherwise.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import gaussian_kde

from specxr.galaxy.columns import require
from specxr.galaxy.positions import in_kpc
from specxr.published.hot_stars import HOT_STAR_SELECTION
from specxr.vocabulary import LABEL, LABELS, STAR, Result

# A straight line logg = intercept + slope log10(teff): its slope and intercept.
KielLine = tuple[float, float]

_BINS, _LEAST_IN_BIN = 12, 40  # of the temperature, in which a valley is looked for, and stars of a bin
_LOGG = np.linspace(0.0, 5.5, 276)  # where the density of stars is calculated [dex]


def not_cool(stars: xr.Dataset, name: str = "lasp_teff", limit: float | None = None) -> xr.DataArray:
    """Whether a pipeline of cool stars gives a temperature of at least ``limit`` [K], or none."""
    require(stars, name)
    limit = HOT_STAR_SELECTION.lasp_teff if limit is None else limit
    return _criterion(~(stars[name] < limit), "not_cool", f"{name} >= {limit:g} K, or none")


def pseudo_magnitude(stars: xr.Dataset) -> xr.DataArray:
    """Absolute magnitude in Ks, not corrected for extinction: Ks - 5 log10(r / pc) + 5 [mag], with `distance`."""
    require(stars, "ks", "distance")
    distance = in_kpc(stars["distance"])
    magnitude: xr.DataArray = stars["ks"] - xr.apply_ufunc(np.log10, distance, dask="allowed") * 5.0 - 10.0
    return magnitude.rename("m_ks").assign_attrs(
        units="mag", long_name="absolute magnitude in Ks, not corrected for extinction"
    )


def luminous(stars: xr.Dataset, limit: float | None = None) -> xr.DataArray:
    """Whether `pseudo_magnitude` is less than ``limit`` [mag], which is brighter than an F6 dwarf by default."""
    limit = HOT_STAR_SELECTION.m_ks if limit is None else limit
    return _criterion(pseudo_magnitude(stars) < limit, "luminous", f"Ks - 5 log10(r / pc) + 5 < {limit:g}")


def oba_colours(stars: xr.Dataset) -> xr.DataArray:
    """Whether J - H and G - Ks are those of reddened O, B and A stars (the paper's equation 1, Zari et al. 2021)."""
    require(stars, "phot_g_mean_mag", "j", "h", "ks")
    g_ks, j_h = stars["phot_g_mean_mag"] - stars["ks"], stars["j"] - stars["h"]
    slope, above, below = HOT_STAR_SELECTION.oba_colours
    inside = (j_h < slope * g_ks + above) & (j_h > slope * g_ks + below)
    return _criterion(
        inside, "oba_colours", f"{slope:g} (G - Ks) {below:+g} < J - H < {slope:g} (G - Ks) {above:+g}"
    )


def no_giant(stars: xr.Dataset) -> xr.DataArray:
    """Whether a star is fainter than cool giants of its colour (the paper's equation 2, Zari et al. 2021)."""
    require(stars, "phot_g_mean_mag", "ks")
    slope, intercept = HOT_STAR_SELECTION.no_giant
    g = stars["phot_g_mean_mag"]
    return _criterion(
        g > slope * (g - stars["ks"]) + intercept, "no_giant", f"G > {slope:g} (G - Ks) {intercept:+g}"
    )


def enough_signal(stars: xr.Dataset, snr: float | None = None, name: str = "snr_r") -> xr.DataArray:
    """Whether the S/N per pixel is at least ``snr``; the paper's catalogue takes 10 by default, its abundances 50."""
    require(stars, name)
    snr = HOT_STAR_SELECTION.snr if snr is None else snr
    return _criterion(stars[name] >= snr, "enough_signal", f"{name} >= {snr:g}")


def hot(stars: xr.Dataset, limits: tuple[float, float] | None = None) -> xr.DataArray:
    """Whether `teff` lies between two temperatures [K], both left out, since stars pile up at the ends of a grid."""
    require(stars, "teff")
    low, high = HOT_STAR_SELECTION.teff if limits is None else limits
    inside = (stars["teff"] > low) & (stars["teff"] < high)
    return _criterion(inside, "hot", f"{low:g} K < teff < {high:g} K")


def below_line(stars: xr.Dataset, line: KielLine) -> xr.DataArray:
    """Whether a star lies below a line in the Kiel diagram, above which stars too hot for the training set are put.

    Parameters
    ----------
    stars : Dataset
        ``teff`` and ``logg``.
    line : (float, float)
        Slope and intercept of logg against log10(teff), given or from `fit_kiel_line`.
    """
    require(stars, "teff", "logg")
    slope, intercept = line
    at = xr.apply_ufunc(np.log10, stars["teff"], dask="allowed") * slope + intercept
    return _criterion(stars["logg"] > at, "below_line", f"logg > {slope:.3g} log10(teff) {intercept:+.3g}")


def fit_kiel_line(stars: xr.Dataset) -> KielLine:
    """Fit the line in the Kiel diagram between stars and what is put above them (the paper's Fig. 9).

    Parameters
    ----------
    stars : Dataset
        ``teff`` and ``logg`` of a sample; they are computed here.

    Returns
    -------
    (float, float)
        Slope and intercept of logg against log10(teff): a straight line through the emptiest gravity between the two
        groups, in bins of temperature where there are two.

    Raises
    ------
    ValueError
        In fewer than three bins two groups of stars are seen.
    """
    require(stars, "teff", "logg")
    teff, logg = (stars[name].values.astype("f8") for name in ("teff", "logg"))
    known = np.isfinite(teff + logg) & (teff > 0)
    x, y = np.log10(teff[known]), logg[known]
    places, valleys = [], []
    for members in np.array_split(np.argsort(x), max(1, min(_BINS, x.size // _LEAST_IN_BIN))):
        if members.size >= _LEAST_IN_BIN and (valley := _valley(y[members])) is not None:
            places.append(float(x[members].mean()))
            valleys.append(valley)
    if len(places) < 3:
        raise ValueError(
            f"in {len(places)} bins of temperature two groups of stars are seen; at least 3 are required to fit a line "
            "between them. Give the line; or leave the criterion out, if nothing is put above the stars."
        )
    slope, intercept = np.polyfit(places, valleys, 1)
    return float(slope), float(intercept)


def determined(labels: xr.Dataset, name: str) -> xr.DataArray:
    """Whether a label is known and may be used: finite, with a positive error, converged, and not a limit.

    Parameters
    ----------
    labels : Dataset
        Labels of a run, with ``<label>_err``; ``result`` and ``limit`` count where they are there.
    name : str
        The label.
    """
    require(labels, name, f"{name}_err")
    good = (labels[name] > -np.inf) & (labels[name] < np.inf) & (labels[f"{name}_err"] > 0)
    if "result" in labels.variables:
        good &= labels["result"] == int(Result.CONVERGED)
    if "limit" in labels.variables and name in labels[LABEL].values:
        good &= labels["limit"].sel({LABEL: name}, drop=True) == 0
    return _criterion(good, f"{name}_determined", f"{name} converged, with an error, and is no limit")


def join_visits(stars: xr.Dataset, group: str = "source_id", snr: str = "snr_r") -> xr.Dataset:
    """Join the visits of each star: mean labels with weights of the squared S/N.

    Parameters
    ----------
    stars : Dataset
        A row for each visit, in memory or small enough for it: labels, their errors and other variables along
        ``star``.
    group, snr : str, optional
        Variables that name the star of a visit and its S/N.

    Returns
    -------
    Dataset
        A row for each star, in the order of their first visits. Labels are means over the visits that have them; the
        variance of a label falls with the squared S/N, so that is the weight. ``<label>_err`` is the error of the mean,
        ``<label>_visits`` the weighted standard deviation between the visits, NaN of a single one; ``n_visits``. The
        S/N is that of all visits together, and every other variable that of the visit with the largest S/N.
    """
    require(stars, group, snr)
    stars = stars.drop_dims([dim for dim in stars.dims if dim != STAR]).compute()
    codes, names = pd.factorize(stars[group].values)
    ratio = np.nan_to_num(stars[snr].values.astype("f8")).clip(min=0.0)
    order = np.lexsort((-ratio, codes))
    best = order[np.unique(codes[order], return_index=True)[1]]
    out = stars.isel({STAR: best})
    for name in (name for name in LABELS if name in stars.data_vars):
        error = stars[f"{name}_err"].values if f"{name}_err" in stars else np.full(ratio.size, np.nan)
        mean, mean_err, spread = _weighted(stars[name].values, error, ratio**2, codes, len(names))
        out[name] = (STAR, mean, stars[name].attrs)
        if f"{name}_err" in stars:
            out[f"{name}_err"] = (STAR, mean_err, stars[f"{name}_err"].attrs)
        prose = f"weighted standard deviation of {name} between the visits"
        out[f"{name}_visits"] = (STAR, spread, {"units": LABELS[name].units, "long_name": prose})
    out["n_visits"] = (STAR, np.bincount(codes, minlength=len(names)), {"long_name": "number of visits"})
    together = np.sqrt(np.bincount(codes, ratio**2, len(names)))
    return out.assign({snr: (STAR, together, stars[snr].attrs)})


def _weighted(
    value: NDArray[np.float64],
    error: NDArray[np.float64],
    weight: NDArray[np.float64],
    codes: NDArray[np.int64],
    n: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean, its error, and scatter of each star, shapes (star,)."""
    known = np.isfinite(value) & (weight > 0)
    value, error, weight, codes = value[known], error[known], weight[known], codes[known]
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.bincount(codes, weight, n)
        mean = np.bincount(codes, weight * value, n) / total
        mean_err = np.sqrt(np.bincount(codes, (weight * error) ** 2, n)) / total
        count = np.bincount(codes, minlength=n)
        spread = np.sqrt(
            np.bincount(codes, weight * (value - mean[codes]) ** 2, n) / total * count / (count - 1.0)
        )
    return mean, mean_err, spread


def _valley(logg: NDArray[np.float64]) -> float | None:
    """Emptiest gravity between the main group and a smaller one above it; None where there is no second group."""
    if np.ptp(logg) == 0:
        return None
    density = gaussian_kde(logg)(_LOGG)
    rising, falling = density[1:-1] > density[:-2], density[1:-1] >= density[2:]
    peaks = np.flatnonzero(rising & falling) + 1
    main = int(np.argmax(density))
    above = peaks[(peaks < main) & (density[peaks] > 0.02 * density[main])]
    if not above.size:
        return None
    second = int(above[np.argmax(density[above])])
    lowest = second + int(np.argmin(density[second:main]))
    return float(_LOGG[lowest]) if density[lowest] < 0.5 * density[second] else None


def _criterion(holds: xr.DataArray, name: str, prose: str) -> xr.DataArray:
    return holds.rename(name).drop_attrs().assign_attrs(long_name=prose)
