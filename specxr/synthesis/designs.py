"""Label designs: which stars a training set holds."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Labels = dict[str, NDArray[np.float64]]

# Perturbation of the labels of an isochrone (hot-star paper, section 3.2).
SIGMA_TEFF, SIGMA_LOGG = 250.0, 0.25  # K, dex


@dataclass(frozen=True)
class Uniform:
    """All values between `low` and `high` alike."""

    low: float
    high: float

    def quantile(self, fraction: ArrayLike) -> NDArray[np.float64]:
        """Value below which this fraction of the stars lies."""
        return self.low + (self.high - self.low) * np.asarray(fraction)


@dataclass(frozen=True)
class LogNormal:
    """A log-normal distribution with its peak at `mode`, cut at `low` and `high`; `width` in ln.

    The peak of the distribution of ln x lies at mode * exp(width^2).
    """

    mode: float
    width: float
    low: float
    high: float

    def quantile(self, fraction: ArrayLike) -> NDArray[np.float64]:
        """Value below which this fraction of the stars lies."""
        whole = stats.lognorm(self.width, scale=self.mode * np.exp(self.width**2))
        below, upto = whole.cdf((self.low, self.high))
        return whole.ppf(below + (upto - below) * np.asarray(fraction))


def draw(
    distributions: Mapping[str, Uniform | LogNormal], n_stars: int, seed: int, sobol: bool = True
) -> Labels:
    """Draw labels, each from its own distribution.

    Parameters
    ----------
    distributions : mapping of str to Uniform or LogNormal
        By names of the vocabulary.
    n_stars : int
    seed : int
    sobol : bool, optional
        Whether the stars fill the box evenly, as a scrambled Sobol sequence does, or are independent.

    Returns
    -------
    dict of str to ndarray, shape (star,)
        In the units of the vocabulary.
    """
    if sobol:
        sequence = stats.qmc.Sobol(len(distributions), rng=seed)
        # Sobol sequences are balanced in powers of two, and warn about other lengths.
        fraction = sequence.random_base2(int(np.ceil(np.log2(max(n_stars, 1)))))[:n_stars]
    else:
        fraction = np.random.default_rng(seed).random((n_stars, len(distributions)))
    return {
        name: d.quantile(column) for (name, d), column in zip(distributions.items(), fraction.T, strict=True)
    }


def read_isochrones(path: str | Path) -> pd.DataFrame:
    """Read isochrones in the layout of FSPS (PARSEC), plain or gzipped.

    Returns
    -------
    DataFrame
        A row for each point of an isochrone: ``teff`` [K], ``logg`` [dex], ``log_age`` (log10 of years),
        ``mass`` [solar].
    """
    path = Path(path)
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else path.open()
    with opened as file:
        header = file.readline()
        names = header.lstrip("# ").split()
        missing = {"log(age)", "Mini", "logt", "logg"} - set(names)
        if missing:
            raise ValueError(
                f"{path} begins with {header.strip()[:80]!r}; the columns log(age), Mini, logt and logg of FSPS' "
                "isochrones are required; give such a file, or a table of your own with teff and logg."
            )
        table = pd.read_csv(file, sep=r"\s+", comment="#", header=None, names=names)
    return pd.DataFrame(
        {
            "teff": 10.0 ** table["logt"],
            "logg": table["logg"],
            "log_age": table["log(age)"],
            "mass": table["Mini"],
        }
    )


def draw_isochrones(
    isochrones: pd.DataFrame,
    n_stars: int,
    seed: int,
    teff: tuple[float, float],
    logg: tuple[float, float],
) -> Labels:
    """Draw temperatures and gravities along isochrones, perturbed, so that stars fill the space between them.

    Parameters
    ----------
    isochrones : DataFrame
        ``teff`` [K] and ``logg`` [dex]; points of equal weight, which isochrones space in evolutionary phase.
    n_stars : int
    seed : int
    teff, logg : (float, float)
        Ranges that the perturbed labels are in [K, dex].

    Returns
    -------
    dict of str to ndarray, shape (star,)
        ``teff`` [K] and ``logg`` [dex].
    """
    # Points farther outside than four standard deviations never come in.
    reach_teff, reach_logg = 4.0 * SIGMA_TEFF, 4.0 * SIGMA_LOGG
    near = isochrones["teff"].between(teff[0] - reach_teff, teff[1] + reach_teff)
    near &= isochrones["logg"].between(logg[0] - reach_logg, logg[1] + reach_logg)
    points = isochrones.loc[near, ["teff", "logg"]].to_numpy(dtype="float64")
    within = (points >= (teff[0], logg[0])) & (points <= (teff[1], logg[1]))
    if not within.all(axis=1).any():
        raise ValueError(
            f"the isochrones have no point with teff in {teff} and logg in {logg}; some are required; "
            "give younger or older isochrones, or other ranges."
        )
    rng = np.random.default_rng(seed)
    drawn = np.empty((0, 2))
    while len(drawn) < n_stars:
        some = points[rng.integers(len(points), size=2 * n_stars)]
        some = some + rng.normal(0.0, (SIGMA_TEFF, SIGMA_LOGG), some.shape)
        kept = (some >= (teff[0], logg[0])) & (some <= (teff[1], logg[1]))
        drawn = np.concatenate([drawn, some[kept.all(axis=1)]])
    return {"teff": drawn[:n_stars, 0], "logg": drawn[:n_stars, 1]}
